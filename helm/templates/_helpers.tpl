{{/* What topology.yaml declares, as {namespace, services}. */}}
{{- define "meshmart.topology" -}}
{{- .Files.Get "topology.yaml" -}}
{{- end -}}

{{- define "meshmart.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Labels of everything: context {root, name}. */}}
{{- define "meshmart.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: meshmart
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end -}}

{{/* One service's settings: the defaults with the service's own over them. Context {root, name}. */}}
{{- define "meshmart.settings" -}}
{{- $own := get .root.Values.services .name | default dict -}}
{{- mergeOverwrite (deepCopy .root.Values.defaults) (deepCopy $own) | toYaml -}}
{{- end -}}

{{- define "meshmart.podSecurity" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "meshmart.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: {{ not .Values.development }}
{{- end -}}

{{/* A secret's value as it is in the cluster, or a new one. Context {root, secret, key}. */}}
{{- define "meshmart.keptSecret" -}}
{{- $existing := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- if and $existing (hasKey ($existing.data | default dict) .key) -}}
{{- get $existing.data .key | b64dec -}}
{{- else -}}
{{- randAlphaNum 40 -}}
{{- end -}}
{{- end -}}

{{/* How many proxies stand in front of the frontend. */}}
{{- define "meshmart.proxiesInFront" -}}
{{- if kindIs "invalid" .Values.proxiesInFront -}}
{{- or (ne .Values.ingress.kind "") (not .Values.frontend.servesApi) | ternary 1 0 -}}
{{- else -}}
{{- .Values.proxiesInFront -}}
{{- end -}}
{{- end -}}

{{/* What puts a pod into the mesh, with a proxy that fits a small node. */}}
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
Of a Service in Linkerd: a pod that fails seven requests in a row is left alone, for a second at first, then for longer. Linkerd
leaves the only one alone, too, and a pod that has too much to do answers 503: so only where others can take its place.
Context {root, settings}.
*/ -}}
{{- define "meshmart.balancerAnnotations" -}}
{{- if and (eq .root.Values.mesh "linkerd") (ge (int .settings.replicas) 2) }}
annotations:
  balancer.linkerd.io/failure-accrual: consecutive
{{- end }}
{{- end -}}

{{/* In Istio the proxy makes HTTPS of it (mesh/istio/base/stripe.yaml), for Stripe itself and for the sandbox. */}}
{{- define "meshmart.stripeBase" -}}
{{- if .Values.stripe.apiBase -}}{{ .Values.stripe.apiBase }}
{{- else if eq .Values.mesh "istio" -}}http://api.stripe.com
{{- else if not .Values.stripe.apiKey -}}http://stripe-sandbox.{{ .Values.stripe.sandbox.namespace }}:12111
{{- end -}}
{{- end -}}
