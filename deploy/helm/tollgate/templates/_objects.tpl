{{/* An object of deploy/kubernetes, in the release's namespace. Takes `root` and `file`. */}}
{{- define "tollgate.object" -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $object := .root.Files.Get .file | replace ".tollgate.svc" (printf ".%s.svc" $namespace) | fromYaml -}}
{{- $labels := merge (dict "app.kubernetes.io/part-of" "tollgate") (default dict $object.metadata.labels) -}}
{{- $_ := set $object.metadata "namespace" $namespace -}}
{{- $_ := set $object.metadata "labels" $labels -}}
{{- toYaml $object -}}
{{- end -}}

{{/* A Deployment with what the values say of it. Takes `root`, `file`, `values` and `env`, variables that go before the manifest's. */}}
{{- define "tollgate.deployment" -}}
{{- $deployment := include "tollgate.object" . | fromYaml -}}
{{- $pod := $deployment.spec.template.spec -}}
{{- $container := first $pod.containers -}}
{{- $names := list -}}
{{- range .env }}{{ $names = append $names .name }}{{ end -}}
{{- $env := list -}}
{{- range $container.env }}{{ if not (has .name $names) }}{{ $env = append $env . }}{{ end }}{{ end -}}
{{- $_ := set $container "env" (concat $env .env) -}}
{{- $_ := set $container "image" (printf "%s@%s" .root.Values.image.repository .root.Values.image.digest) -}}
{{- $_ := set $container "resources" (mergeOverwrite $container.resources .values.resources) -}}
{{- range $pod.volumes -}}
{{- if eq .name "secrets" }}{{ $_ := set .secret "secretName" $.values.secret }}{{ end -}}
{{- end -}}
{{- toYaml $deployment -}}
{{- end -}}

{{/* An autoscaler of so many replicas. Takes `root`, `file` and `values`. */}}
{{- define "tollgate.autoscaler" -}}
{{- $autoscaler := include "tollgate.object" . | fromYaml -}}
{{- with .values.replicas.min }}{{ $_ := set $autoscaler.spec "minReplicas" . }}{{ end -}}
{{- with .values.replicas.max }}{{ $_ := set $autoscaler.spec "maxReplicas" . }}{{ end -}}
{{- toYaml $autoscaler -}}
{{- end -}}

{{/* A ConfigMap. Takes `root`, `name` and `data`. */}}
{{- define "tollgate.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    app.kubernetes.io/part-of: tollgate
data: {{- toYaml .data | nindent 2 }}
{{- end -}}
