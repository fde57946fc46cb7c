{{/* The content of topology.yaml, as {namespace, services}. */}}
{{- define "meshmart.topology" -}}
{{- $topology := .Files.Get "topology.yaml" -}}
{{- if not (contains "\nservices:" $topology) -}}
{{- fail "helm/topology.yaml declares no services. It is a symbolic link, and a checkout without those (Git on Windows) has a text file with a path in its place: copy services/topology.yaml over it, or install the packaged chart." -}}
{{- end -}}
{{- $topology -}}
{{- end -}}

{{/* The shop's own image. */}}
{{- define "meshmart.image" -}}
{{- $image := .Values.image -}}
{{- $version := $image.digest | empty | ternary (printf ":%s" ($image.tag | default .Chart.AppVersion)) (printf "@%s" $image.digest) -}}
{{- include "meshmart.fromRegistry" (dict "root" . "image" (print $image.repository $version)) -}}
{{- end -}}

{{/* Any image, with the registry's prefix. Context {root, image}. */}}
{{- define "meshmart.fromRegistry" -}}
{{- with .root.Values.imageRegistry }}{{ . }}/{{ end }}{{ .image -}}
{{- end -}}

{{/* The labels of all objects. Context {root, name}. */}}
{{- define "meshmart.labels" -}}
{{ include "meshmart.podLabels" . }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{/* The labels of pods, without the chart's version, which would restart them at each upgrade. */}}
{{- define "meshmart.podLabels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: meshmart
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{/* `pod` of the values, overridden by the workload's own. Context {root, own}. */}}
{{- define "meshmart.pod" -}}
{{- mergeOverwrite (deepCopy .root.Values.pod) (deepCopy (.own | default dict)) | toYaml -}}
{{- end -}}

{{/*
A pod's labels and annotations. Values cannot override the chart's own labels, because selectors use them; they can override its annotations.
Context {root, name, own, labels, annotations}; the last two are YAML and optional.
*/}}
{{- define "meshmart.podMetadata" -}}
{{- $pod := include "meshmart.pod" . | fromYaml -}}
{{- $labels := list (include "meshmart.podLabels" .) (.labels | default "") | join "\n" | fromYaml -}}
labels: {{- merge $labels ($pod.labels | default dict) | toYaml | nindent 2 }}
{{- with mergeOverwrite (.annotations | default "" | fromYaml) ($pod.annotations | default dict) }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The scheduling of a pod, and its pull secrets. Context {root, own}. */}}
{{- define "meshmart.placement" -}}
{{- $pod := include "meshmart.pod" . | fromYaml -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $pod.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* A service's settings: the defaults, overridden by its own. Context {root, name}. */}}
{{- define "meshmart.settings" -}}
{{- $own := get .root.Values.services .name | default dict -}}
{{- mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy $own) | toYaml -}}
{{- end -}}

{{/* A pod's security context. Context {user}: the user of the image, by default the shop's. */}}
{{- define "meshmart.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .user | default 10001 }}
runAsGroup: {{ .user | default 10001 }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "meshmart.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: {{ not .Values.development }}
{{- end -}}

{{/*
One value of a Secret: the given one, or the one in the cluster, or a random one, which is the same in the whole render.
Context {root, secret, key, given}.
*/}}
{{- define "meshmart.secretValue" -}}
{{- if not (hasKey .root "secretValues") }}{{ $_ := set .root "secretValues" dict }}{{ $_ := set .root "drawnSecrets" dict }}{{ end -}}
{{- $id := printf "%s/%s" .secret .key -}}
{{- if not (hasKey .root.secretValues $id) -}}
{{- $value := .given -}}
{{- if not $value -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- $value = get ($found.data | default dict) .key | default "" | b64dec -}}
{{- end -}}
{{- if not $value -}}
{{- $value = randAlphaNum 40 -}}
{{- $_ := set .root.drawnSecrets .secret true -}}
{{- end -}}
{{- $_ := set .root.secretValues $id $value -}}
{{- end -}}
{{- get .root.secretValues $id -}}
{{- end -}}

{{/* A comment on a Secret with random values. Context {root, secret}; the values come first. */}}
{{- define "meshmart.drawnNote" -}}
{{- if hasKey (get .root "drawnSecrets" | default dict) .secret -}}
# Drawn by lot: right for `helm install`, wrong for what renders without looking into the cluster (docs/chart.md).
{{- end -}}
{{- end -}}

{{/* For the chart's own MongoDB: the password of `root` or of a service's user. Context {root, name, secret}. */}}
{{- define "meshmart.databasePassword" -}}
{{- $given := .root.Values.mongodb.password -}}
{{- if and $given (ne .name "root") }}{{ $given = printf "%s %s" $given .name | sha256sum | trunc 40 }}{{ end -}}
{{- include "meshmart.secretValue" (dict "root" .root "secret" .secret "key" "password" "given" $given) -}}
{{- end -}}

{{/* "true" if the chart installs MongoDB. */}}
{{- define "meshmart.hasOwnMongodb" -}}
{{- if not (or .Values.mongodb.uri .Values.mongodb.uriSecret) }}true{{ end -}}
{{- end -}}

{{/* "true" if the sandbox replaces Stripe. */}}
{{- define "meshmart.usesSandbox" -}}
{{- if not (or .Values.stripe.apiKey .Values.stripe.existingSecret) }}true{{ end -}}
{{- end -}}

{{- define "meshmart.sandboxNamespace" -}}
{{- .Values.stripe.sandbox.namespace | default .Release.Namespace -}}
{{- end -}}

{{/* "true" if the chart makes a namespace for the sandbox. */}}
{{- define "meshmart.makesSandboxNamespace" -}}
{{- $sandbox := .Values.stripe.sandbox -}}
{{- if and (include "meshmart.usesSandbox" .) (not $sandbox.shared) $sandbox.namespace (ne $sandbox.namespace .Release.Namespace) }}true{{ end -}}
{{- end -}}

{{/* "true" if people use https. */}}
{{- define "meshmart.secureCookies" -}}
{{- or .Values.frontend.secureCookies (ne .Values.ingress.tlsSecretName "") -}}
{{- end -}}

{{/* The number of proxies in front of the frontend. */}}
{{- define "meshmart.proxiesInFront" -}}
{{- if kindIs "invalid" .Values.proxiesInFront -}}
{{- or (ne .Values.ingress.kind "") (not .Values.frontend.servesApi) | ternary 1 0 -}}
{{- else -}}
{{- .Values.proxiesInFront -}}
{{- end -}}
{{- end -}}

{{/* The labels or annotations that add a proxy, with requests for a small node. */}}
{{- define "meshmart.meshLabels" -}}
{{- if eq .Values.mesh "istio" }}
sidecar.istio.io/inject: "true"
{{- end }}
{{- end -}}

{{- define "meshmart.meshAnnotations" -}}
{{- if eq .Values.mesh "istio" }}
sidecar.istio.io/proxyCPU: 10m
sidecar.istio.io/proxyMemory: 64Mi
sidecar.istio.io/proxyCPULimit: "1"
sidecar.istio.io/proxyMemoryLimit: 256Mi
{{- else if eq .Values.mesh "linkerd" }}
linkerd.io/inject: enabled
config.linkerd.io/proxy-cpu-request: 10m
config.linkerd.io/proxy-memory-request: 32Mi
config.linkerd.io/proxy-cpu-limit: "1"
config.linkerd.io/proxy-memory-limit: 128Mi
{{- end }}
{{- end -}}

{{- /*
For a Service in Linkerd: ejects a pod that fails seven requests in a row, for a second at first, then for longer. Linkerd ejects a single pod,
too, and a pod with too much load answers 503. So only a service with several pods has it. Context {root, settings}.
*/ -}}
{{- define "meshmart.balancerAnnotations" -}}
{{- if and (eq .root.Values.mesh "linkerd") (ge (int .settings.replicas) 2) }}
balancer.linkerd.io/failure-accrual: consecutive
{{- end }}
{{- end -}}

{{/* Stripe's address. In Istio the proxy turns it into HTTPS (mesh/istio/base/stripe.yaml), for Stripe and for the sandbox. */}}
{{- define "meshmart.stripeBase" -}}
{{- if .Values.stripe.apiBase -}}{{ .Values.stripe.apiBase }}
{{- else if eq .Values.mesh "istio" -}}http://api.stripe.com
{{- else if include "meshmart.usesSandbox" . -}}http://stripe-sandbox.{{ include "meshmart.sandboxNamespace" . }}:12111
{{- end -}}
{{- end -}}
