{{- define "posthouse.labels" -}}
app.kubernetes.io/part-of: {{ .Release.Name }}
{{- end }}

{{- define "posthouse.image" -}}
{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* What the services differ in, but for their size. */}}
{{- define "posthouse.services" -}}
scheduler: {grace: 45, room: 256Mi}
fetcher: {grace: 120, room: 4Gi}
decryptor: {grace: 120, room: 4Gi}
forwarder: {grace: 90, room: 64Mi}
admin: {grace: 45, room: 1Gi}
{{- end }}

{{/* Whether something else says how many there are of a service. */}}
{{- define "posthouse.scaled" -}}
{{- if and (ne .root.Values.autoscaling.kind "none") (has .service (list "fetcher" "decryptor" "forwarder")) }}yes{{ end }}
{{- end }}

{{- define "posthouse.podSecurity" -}}
runAsNonRoot: true
{{- if not .Values.openshift }}
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "posthouse.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "posthouse.mounts" -}}
- name: {{ . }}
  mountPath: /run/secrets/posthouse
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- end }}

{{/* `http`: path and the port's name. */}}
{{- define "posthouse.probe" -}}
httpGet:
  path: {{ . }}
  port: health
{{- end }}

{{/* What the Secret has for the store; forwarders do not read it. */}}
{{- define "posthouse.storeFiles" -}}
{{- $files := list }}
{{- if ne .service "forwarder" }}
{{- if .root.Values.store.keys }}{{ $files = concat $files (list "store-access-key" "store-secret-key") }}{{ end }}
{{- if .root.Values.store.ca }}{{ $files = append $files "store-ca" }}{{ end }}
{{- end }}
{{- toYaml $files }}
{{- end }}
