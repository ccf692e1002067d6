// A Kubernetes API server for tests: the real kube-apiserver, with the etcd it keeps its objects in inside the same process.
//
// Usage: kube-apiserver DIRECTORY FLAG...   (the flags are kube-apiserver's; DIRECTORY is etcd's)
package main

import (
	"fmt"
	"net"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	directory := os.Args[1]
	address, err := startEtcd(directory)
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd does not start:", err)
		os.Exit(1)
	}
	command := app.NewAPIServerCommand()
	command.SetArgs(append([]string{"--etcd-servers=" + address}, os.Args[2:]...))
	os.Exit(cli.Run(command))
}

// Starts etcd on free ports of this machine and returns its address.
func startEtcd(directory string) (string, error) {
	clients, err := freeAddress()
	if err != nil {
		return "", err
	}
	peers, err := freeAddress()
	if err != nil {
		return "", err
	}
	config := embed.NewConfig()
	config.Dir = directory
	config.LogLevel = "error"
	// Nothing here is kept.
	config.UnsafeNoFsync = true
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{clients}, []url.URL{clients}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{peers}, []url.URL{peers}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return "", err
	}
	<-server.Server.ReadyNotify()
	return clients.String(), nil
}

func freeAddress() (url.URL, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return url.URL{}, err
	}
	defer listener.Close()
	return url.URL{Scheme: "http", Host: listener.Addr().String()}, nil
}
