// A client that buf generated from our protos: calls StreamComplete.
//
// Usage: client HOST:PORT KEY MODEL PROMPT. Prints one JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	completion "example.com/client/gen/tollgate/completion/v1"
)

func main() {
	address, key, model, prompt := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)

	stream, err := completion.NewCompletionServiceClient(connection).StreamComplete(ctx, &completion.StreamCompleteRequest{
		Chat: &completion.Chat{
			Model:    model,
			Messages: []*completion.Message{{Role: completion.Role_ROLE_USER, Text: prompt}},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	text, ended := "", false
	for {
		var answer *completion.StreamCompleteResponse
		if answer, err = stream.Recv(); err != nil {
			break
		}
		switch event := answer.Event.(type) {
		case *completion.StreamCompleteResponse_Delta:
			text += event.Delta.Text
		case *completion.StreamCompleteResponse_Ended:
			ended = true
		}
	}
	outcome := status.Code(err).String()
	if errors.Is(err, io.EOF) {
		outcome = "OK"
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"text": text, "ended": ended, "status": outcome}); err != nil {
		log.Fatal(err)
	}
}
