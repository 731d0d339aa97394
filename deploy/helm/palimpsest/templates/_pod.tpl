{{/* Labels of one component: dict "root" $ "name" "decoding" */}}
{{- define "palimpsest.labels" -}}
app.kubernetes.io/name: palimpsest
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{/* What every pod has in common: dict "root" $ "name" .. "image" .. "settings" .. "resources" .. "command" .. "probe" .. */}}
{{- define "palimpsest.pod" -}}
metadata:
  labels:
    {{- include "palimpsest.labels" . | nindent 4 }}
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: "9464"
spec:
  terminationGracePeriodSeconds: {{ .root.Values.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: {{ .name }}
      image: {{ index .root.Values.image .image }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: {{ toJson .command }}
      securityContext:
        readOnlyRootFilesystem: true
        allowPrivilegeEscalation: false
        capabilities: {drop: [ALL]}
      env:
        {{- if not .stateless }}
        - name: PALIMPSEST_REDIS_URL
          valueFrom: {secretKeyRef: {name: {{ .root.Values.secret }}, key: redis_url}}
        - {name: PALIMPSEST_TOKENS_FILE, value: /run/palimpsest/tokens.json}
        {{- end }}
        - {name: PALIMPSEST_LISTEN, value: "0.0.0.0:7600"}
        - {name: PALIMPSEST_METRICS_LISTEN, value: "0.0.0.0:9464"}
        {{- if .root.Values.tls }}
        - {name: PALIMPSEST_TLS_CERTIFICATE, value: /run/palimpsest/tls.crt}
        - {name: PALIMPSEST_TLS_KEY, value: /run/palimpsest/tls.key}
        {{- else }}
        - {name: PALIMPSEST_INSECURE, value: "true"}
        {{- end }}
        - name: PALIMPSEST_PEERS
          value: "{{ .root.Release.Name }}-registry:7600{{ range $room, $_ := .root.Values.rooms }}{{ if ne $room "registry" }},{{ $room }}={{ $.root.Release.Name }}-{{ $room }}:7600{{ end }}{{ end }}"
        {{- if .worker }}
        - name: PALIMPSEST_SERVICE_TOKEN
          valueFrom: {secretKeyRef: {name: {{ .root.Values.secret }}, key: service_token, optional: true}}
        {{- end }}
        {{- with .root.Values.artifactUrl }}
        - {name: PALIMPSEST_ARTIFACT_URL, value: {{ . | quote }}}
        {{- end }}
        {{- range $key, $value := merge (dict) (.settings | default dict) .root.Values.settings }}
        - {name: {{ $key }}, value: {{ $value | quote }}}
        {{- end }}
      ports:
        - {name: grpc, containerPort: 7600}
        - {name: metrics, containerPort: 9464}
      {{- .probe | nindent 6 }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      volumeMounts:
        {{- if not .stateless }}
        - {name: state, mountPath: /var/lib/palimpsest}
        {{- end }}
        - {name: secret, mountPath: /run/palimpsest, readOnly: true}
        - {name: tmp, mountPath: /tmp}
  volumes:
    {{- if not .stateless }}
    - name: state
      persistentVolumeClaim: {claimName: {{ .root.Release.Name }}-state}
    {{- end }}
    - name: secret
      secret: {secretName: {{ .root.Values.secret }}}
    - name: tmp
      emptyDir: {}
{{- end }}

{{- define "palimpsest.serverProbes" -}}
{{- if .Values.tls }}
# The kubelet's gRPC probe does not speak TLS; that the port accepts is what it can see.
readinessProbe:
  tcpSocket: {port: 7600}
  periodSeconds: 5
livenessProbe:
  tcpSocket: {port: 7600}
  initialDelaySeconds: 60
  periodSeconds: 20
{{- else }}
startupProbe:
  grpc: {port: 7600}
  failureThreshold: 60
  periodSeconds: 2
readinessProbe:
  grpc: {port: 7600}
  periodSeconds: 5
livenessProbe:
  grpc: {port: 7600}
  periodSeconds: 20
  failureThreshold: 3
{{- end }}
{{- end }}

{{- define "palimpsest.gatewayProbes" -}}
# Alive is who listens; ready, who reaches the decoding room.
readinessProbe:
  httpGet: {path: /health, port: 7680, scheme: {{ ternary "HTTPS" "HTTP" .Values.tls }}}
  periodSeconds: 5
  timeoutSeconds: 6
livenessProbe:
  tcpSocket: {port: 7680}
  initialDelaySeconds: 30
  periodSeconds: 20
{{- end }}

{{- define "palimpsest.workerProbes" -}}
# Measures that the worker still takes part, not that its process exists.
livenessProbe:
  exec: {command: [python3, -m, services.worker, --check]}
  initialDelaySeconds: 60
  periodSeconds: 30
  timeoutSeconds: 15
  failureThreshold: 3
{{- end }}
