"""What Kubernetes does with the rendered manifests, played on local processes: `make rollout`.

Taken as rendered: images' entry points with args, env, ConfigMaps and Secrets as files and variables, replicas,
surge, minReadySeconds, probes, preStop, grace periods, signals, disruption budgets, selectors of Services. A pod's
network is a loopback address of its own; a Service is a TCP proxy that learns of pods a moment late, as kube-proxy
does.
"""
