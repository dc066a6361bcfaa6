{{- define "streamer.ray" -}}
# Ray's own niceness of 15 makes captions late as soon as the machine has other work
- {name: RAY_worker_niceness, value: "0"}
# engines go on for a day without a head
- {name: RAY_gcs_rpc_server_reconnect_timeout_s, value: "86400"}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
{{- end }}
