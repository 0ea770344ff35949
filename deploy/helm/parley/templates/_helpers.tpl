{{/* Names and labels. Every helper of a component takes (dict "root" $ "name" "gateway"). */}}

{{- define "parley.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "parley.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "parley.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "parley.object" -}}
{{- printf "%s-%s" (include "parley.fullname" .root) .name -}}
{{- end -}}

{{- define "parley.selector" -}}
app.kubernetes.io/name: {{ include "parley.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "parley.labels" -}}
{{ include "parley.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* What tells this release's series in Prometheus from those of others (podTargetLabels of the PodMonitor). */}}
{{- define "parley.series" -}}
{{- printf "namespace=%q, app_kubernetes_io_instance=%q" .Release.Namespace .Release.Name -}}
{{- end -}}

{{- define "parley.image" -}}
{{- $image := .root.Values.image -}}
{{- $own := (get .root.Values .name | default dict).image | default dict -}}
{{- $repository := get $own "repository" -}}
{{- if not $repository -}}
{{- $repository = printf "%s%s" $image.prefix .name -}}
{{- with $image.registry -}}{{- $repository = printf "%s/%s" . $repository -}}{{- end -}}
{{- end -}}
{{- if get $own "digest" -}}
{{ $repository }}@{{ get $own "digest" }}
{{- else -}}
{{ $repository }}:{{ coalesce (get $own "tag") $image.tag .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "parley.grpcPort" -}}50051{{- end -}}

{{/* Every address of a pod. */}}
{{- define "parley.everywhere" -}}{{ ternary "[::]" "0.0.0.0" (eq .Values.ipFamily "IPv6") }}{{- end -}}

{{/* Seconds of a duration as the services read it: 500ms, 10s, 2m, 1h, 1d. */}}
{{- define "parley.seconds" -}}
{{- $number := regexFind "^[0-9.]+" . | float64 -}}
{{- $unit := regexFind "[a-z]*$" . -}}
{{- mulf $number (get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 "" 1.0) $unit) -}}
{{- end -}}

{{/* A setting as the services read it from the environment; YAML makes floats of large numbers. */}}
{{- define "parley.setting" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if kindIs "map" . -}}
{{- toJson . -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* Seconds between the end of the drain and the kill. What a service still does then: last words, goodbyes to NATS
and to the sources of tools, traces that wait. */}}
{{- define "parley.marginSeconds" -}}20{{- end -}}

{{- define "parley.terminationGracePeriodSeconds" -}}
{{- $own := get .root.Values .name -}}
{{- add $own.preStopSeconds $own.drainSeconds (include "parley.marginSeconds" .) -}}
{{- end -}}

{{/* Workers at least, whoever scales them. */}}
{{- define "parley.workers" -}}
{{- if eq .Values.worker.autoscaling.kind "none" -}}
{{- .Values.worker.replicas -}}
{{- else -}}
{{- .Values.worker.autoscaling.minReplicas -}}
{{- end -}}
{{- end -}}

{{/* Workers that are replaced at once: as many as the others can take the sessions of in half of the drain (the other
half is for waiting for quiet moments). Each of the others dials rotations_per_second links. Not more than a quarter. */}}
{{- define "parley.handedOver" -}}
{{- $worker := .Values.worker -}}
{{- $rate := dig "rotations_per_second" 5.0 $worker.settings | float64 -}}
{{- $links := mulf (divf $worker.drainSeconds 2.0) $rate (include "parley.workers" . | float64) -}}
{{- floor (divf $links $worker.capacity) | int -}}
{{- end -}}

{{- define "parley.workerSurge" -}}
{{- $quarter := divf (include "parley.workers" . | float64) 4.0 | ceil | int -}}
{{- min (include "parley.handedOver" . | int) (max 1 $quarter) -}}
{{- end -}}

{{/* Seconds from the moment that new workers are ready until old ones go. Pods on their way out are in no count of
Kubernetes', so this is what keeps rounds apart: the others take the sessions of one before the next. */}}
{{- define "parley.workerMinReadySeconds" -}}
{{- $rate := dig "rotations_per_second" 5.0 .Values.worker.settings | float64 -}}
{{- $sessions := mulf (include "parley.workerSurge" . | float64) .Values.worker.capacity -}}
{{- max 3 (divf $sessions (include "parley.workers" . | float64) $rate | ceil | int) -}}
{{- end -}}

{{/* Cores, or MiB, of a quantity as the schema allows it: 2, 500m, 512Mi, 1Gi. */}}
{{- define "parley.amount" -}}
{{- mulf (regexFind "^[0-9]+" . | float64) (get (dict "" 1.0 "m" 0.001 "Mi" 1.0 "Gi" 1024.0) (regexFind "[A-Za-z]*$" .)) -}}
{{- end -}}

{{/* MiB of a worker: 256 for itself, 2 for each session (a session's replay state takes up to 1). */}}
{{- define "parley.workerMemory" -}}
{{- add 256 (mul 2 (int64 .Values.worker.capacity)) -}}Mi
{{- end -}}

{{- define "parley.natsUrl" -}}
{{- if .Values.dev.enabled -}}
nats://{{ include "parley.object" (dict "root" . "name" "nats") }}:4222
{{- else -}}
{{ .Values.nats.url }}
{{- end -}}
{{- end -}}

{{- define "parley.otlpEndpoint" -}}
{{- if and .Values.dev.enabled (not .Values.otlp.endpoint) -}}
http://{{ include "parley.object" (dict "root" . "name" "jaeger") }}:4317
{{- else -}}
{{ .Values.otlp.endpoint }}
{{- end -}}
{{- end -}}

{{- define "parley.geminiUrl" -}}
{{- if .Values.dev.enabled -}}
https://{{ include "parley.object" (dict "root" . "name" "emulator") }}:8443
{{- else -}}
{{ .Values.gemini.baseUrl }}
{{- end -}}
{{- end -}}

{{/* Whether callers need no key. */}}
{{- define "parley.openDoor" -}}
{{- or .Values.callers.development (and .Values.dev.enabled (not .Values.callers.apiKeysSecret.name)) | ternary "true" "" -}}
{{- end -}}

{{/* Whether there is a `helm test`: it needs a key where callers do. */}}
{{- define "parley.tested" -}}
{{- or (include "parley.openDoor" .) .Values.test.apiKeySecret.name | empty | ternary "" "true" -}}
{{- end -}}

{{/* Profiles by name, as YAML: those of the values, or those of a development release. */}}
{{- define "parley.profiles" -}}
{{- if or .Values.profiles (not .Values.dev.enabled) -}}
{{- toYaml .Values.profiles -}}
{{- else -}}
{{- range $path, $_ := .Files.Glob "files/profiles/*.yaml" }}
{{ base $path | trimSuffix ".yaml" }}:
{{ $.Files.Get $path | indent 2 }}
{{- end -}}
{{- end -}}
{{- end -}}
