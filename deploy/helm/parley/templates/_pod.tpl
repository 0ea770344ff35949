{{/* What the pods of the three services have in common. */}}

{{/* Takes the root. An id of null is left to the platform. */}}
{{- define "parley.podSecurity" -}}
runAsNonRoot: true
{{- range $key, $id := .Values.podSecurityContext }}
{{- if not (kindIs "invalid" $id) }}
{{ $key }}: {{ int64 $id }}
{{- end }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "parley.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "parley.scheduling" -}}
{{- $own := get .root.Values .name -}}
{{- with $own.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "parley.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end -}}

{{/* Environment of every service. */}}
{{- define "parley.env" -}}
{{- $prefix := printf "PARLEY_%s" (upper .name) -}}
{{- $values := .root.Values -}}
- name: {{ $prefix }}_NATS_URL
  value: {{ include "parley.natsUrl" .root | quote }}
{{- if $values.dev.enabled }}
- name: {{ $prefix }}_NATS_USER
  value: {{ .name }}
- name: {{ $prefix }}_NATS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "parley.object" (dict "root" .root "name" "nats") }}, key: {{ .name }}}}
{{- else }}
{{- with get $values.nats.users .name }}
- name: {{ $prefix }}_NATS_USER
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: user}}
- name: {{ $prefix }}_NATS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ . | quote }}, key: password}}
{{- end }}
{{- if $values.nats.caSecret.name }}
- name: {{ $prefix }}_NATS_CA_FILE
  value: /etc/parley/nats-ca/{{ $values.nats.caSecret.key }}
{{- end }}
{{- end }}
- name: {{ $prefix }}_FABRIC_REPLICAS
  value: {{ ternary 1 $values.nats.replicas $values.dev.enabled | quote }}
- name: {{ $prefix }}_OTLP_ENDPOINT
  value: {{ include "parley.otlpEndpoint" .root | quote }}
- name: {{ $prefix }}_OPS_LISTEN
  value: {{ printf "%s:8080" (include "parley.everywhere" .root) | quote }}
- name: {{ $prefix }}_LOG_LEVEL
  value: {{ $values.logLevel }}
- name: {{ $prefix }}_SHUTDOWN_GRACE
  value: {{ printf "%vs" (get $values .name).drainSeconds }}
{{- range $setting, $value := (get $values .name).settings }}
- name: {{ $prefix }}_{{ upper $setting }}
  value: {{ include "parley.setting" $value | quote }}
{{- end }}
{{- end -}}

{{/* The pod's container up to its environment, and what follows it. */}}
{{- define "parley.container" -}}
name: {{ .name }}
image: {{ include "parley.image" . | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .name }}]
securityContext: {{- include "parley.containerSecurity" . | nindent 2 }}
lifecycle:
  preStop:
    sleep: {seconds: {{ (get .root.Values .name).preStopSeconds }}}
# Alive as long as its event loop runs: without NATS, and while it drains, it is not ready, and must not be restarted.
startupProbe:
  httpGet: {path: /livez, port: ops}
  periodSeconds: 1
  timeoutSeconds: 3
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: ops}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{- define "parley.podMetadata" -}}
labels: {{- include "parley.labels" . | nindent 2 }}
  {{- with (get .root.Values .name).podLabels }}{{- toYaml . | nindent 2 }}{{- end }}
{{- end -}}

{{- define "parley.podStart" -}}
serviceAccountName: {{ include "parley.object" . }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "parley.terminationGracePeriodSeconds" . }}
securityContext: {{- include "parley.podSecurity" .root | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{ include "parley.scheduling" . }}
{{- end -}}

{{- define "parley.natsCaVolume" -}}
{{- with .Values.nats.caSecret }}
{{- if and .name (not $.Values.dev.enabled) }}
- name: nats-ca
  secret: {secretName: {{ .name | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "parley.natsCaMount" -}}
{{- if and .Values.nats.caSecret.name (not .Values.dev.enabled) }}
- {name: nats-ca, mountPath: /etc/parley/nats-ca, readOnly: true}
{{- end }}
{{- end -}}
