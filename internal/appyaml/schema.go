package appyaml

import (
	"math"
	"regexp"
	"time"

	"holdfast/internal/app"
)

const (
	// maxInstances keeps a slip of the finger from starting millions. App
	// Engine names no bound; a project's quota is far below.
	maxInstances = 10_000

	// maxSeconds bounds what App Engine leaves open: a year.
	maxSeconds = 365 * 24 * 3600

	maxVolumes = 8
)

// defaults is a version of an app.yaml that says nothing but env: flex.
func defaults() app.Version {
	return app.Version{
		Key:       app.Key{Service: app.DefaultService},
		Resources: app.Resources{CPU: 1, MemoryGB: 0.6, DiskGB: 13},
		Scaling:   app.Scaling{Min: 2, Max: 20, CoolDown: 120 * time.Second, CPU: 0.5},
		Live: app.Check{
			Timeout: 4 * time.Second, Interval: 30 * time.Second,
			Failures: 4, Successes: 2, InitialDelay: 300 * time.Second,
		},
		Ready: app.Check{
			Timeout: 4 * time.Second, Interval: 5 * time.Second,
			Failures: 2, Successes: 2, Within: 300 * time.Second,
		},
		Sockets: app.Sockets{MaxAge: time.Hour},
		Drain:   25 * time.Second,
		MaxAge:  7 * 24 * time.Hour,
		Network: app.Network{Name: "default"},
	}
}

// schema is app.yaml: each key and what reads it, with the bounds that App
// Engine documents. What a value must be in view of others is in finish.
func (r *reader) schema() section {
	v := &r.v
	s := section{
		"runtime":             value(r.runtime),
		"env":                 value(r.env),
		"vm":                  value(r.vm),
		"service":             value(r.service),
		"module":              value(r.service), // its name until 2016
		"entrypoint":          value(r.entrypoint),
		"runtime_config":      r.variables(&v.Recipe.RuntimeConfig),
		"build_env_variables": r.variables(&v.Recipe.Env),
		"env_variables":       value(r.environment),
		"service_account":     r.text(&v.ServiceAccount, account, "an e-mail address"),
		"skip_files":          value(r.skipFiles),
		"beta_settings":       value(r.beta),
		"session_affinity":    r.boolean(func(b bool) { r.affinityAbove = &b }),
		"network": section{
			"session_affinity": r.boolean(func(b bool) { r.affinityInNetwork = &b }),
			"forwarded_ports":  r.each(r.forwardedPort),
			"instance_tag":     r.text(&v.Network.InstanceTag, tag, "up to 63 of a-z, 0-9 and -, the first a letter, the last no -"),
			"name":             r.text(&v.Network.Name, networkName, "of a-z, 0-9 and -"),
			"subnetwork_name":  r.text(&v.Network.Subnetwork, tag, "up to 63 of a-z, 0-9 and -, the first a letter, the last no -"),
			"instance_ip_mode": value(r.ipMode),
		},
		"resources": section{
			"cpu":          value(r.cpu),
			"memory_gb":    r.number(&v.Resources.MemoryGB, 0.1, 80*memoryPerCPUMost), // see finish
			"disk_size_gb": r.whole(&v.Resources.DiskGB, 10, 10240),
			"volumes":      value(r.volumes),
		},
		"liveness_check": section{
			"path":               r.checkPath(&v.Live.Path),
			"host":               r.text(&v.Live.Host, host, "a host name"),
			"timeout_sec":        r.seconds(&v.Live.Timeout, 1, 300),
			"check_interval_sec": r.seconds(&v.Live.Interval, 1, 300),
			"failure_threshold":  r.whole(&v.Live.Failures, 1, 10),
			"success_threshold":  r.whole(&v.Live.Successes, 1, 10),
			"initial_delay_sec":  r.seconds(&v.Live.InitialDelay, 0, 3600),
		},
		"readiness_check": section{
			"path":                  r.checkPath(&v.Ready.Path),
			"host":                  r.text(&v.Ready.Host, host, "a host name"),
			"timeout_sec":           r.seconds(&v.Ready.Timeout, 1, 300),
			"check_interval_sec":    r.seconds(&v.Ready.Interval, 1, 300),
			"failure_threshold":     r.whole(&v.Ready.Failures, 1, 10),
			"success_threshold":     r.whole(&v.Ready.Successes, 1, 10),
			"app_start_timeout_sec": r.seconds(&v.Ready.Within, 1, 1800),
		},
		"health_check": section{ // of before split health checks
			"enable_health_check": r.boolean(func(b bool) { r.legacy.disabled = !b }),
			"host":                r.text(&r.legacy.Host, host, "a host name"),
			"timeout_sec":         r.seconds(&r.legacy.Timeout, 1, 300),
			"check_interval_sec":  r.seconds(&r.legacy.Interval, 1, 300),
			"unhealthy_threshold": r.whole(&r.legacy.Failures, 1, 10),
			"healthy_threshold":   r.whole(&r.legacy.Successes, 1, 10),
			"restart_threshold":   r.whole(&r.legacy.restart, 1, maxRestartThreshold),
		},
		"automatic_scaling": section{
			"min_num_instances":    r.whole(&v.Scaling.Min, 1, maxInstances),
			"max_num_instances":    r.whole(&v.Scaling.Max, 1, maxInstances),
			"cool_down_period_sec": r.seconds(&v.Scaling.CoolDown, int(minCoolDown/time.Second), maxSeconds),
			"cpu_utilization": section{
				"target_utilization":            r.number(&v.Scaling.CPU, minCPUUtilization, 1),
				"aggregation_window_length_sec": r.seconds(&v.Scaling.CPUWindow, 1, maxSeconds),
			},
			"target_concurrent_requests":              r.whole(&v.Scaling.Connections, 1, math.MaxInt32),
			"target_request_count_per_sec":            value(r.target),
			"target_network_sent_bytes_per_sec":       value(r.target),
			"target_network_sent_packets_per_sec":     value(r.target),
			"target_network_received_bytes_per_sec":   value(r.target),
			"target_network_received_packets_per_sec": value(r.target),
			"target_disk_read_bytes_per_sec":          value(r.target),
			"target_disk_read_ops_per_sec":            value(r.target),
			"target_disk_write_bytes_per_sec":         value(r.target),
			"target_disk_write_ops_per_sec":           value(r.target),
			"custom_metrics":                          r.each(r.metric),
			"min_instances":                           r.refuse("it belongs to the standard environment", "use min_num_instances"),
			"max_instances":                           r.refuse("it belongs to the standard environment", "use max_num_instances"),
			"min_idle_instances":                      value(r.ignore),
			"max_idle_instances":                      value(r.ignore),
			"min_pending_latency":                     value(r.ignore),
			"max_pending_latency":                     value(r.ignore),
			"max_concurrent_requests":                 value(r.ignore),
			"target_cpu_utilization":                  value(r.ignore),
			"target_throughput_utilization":           value(r.ignore),
		},
		"manual_scaling": section{
			"instances": r.whole(&v.Scaling.Min, 1, maxInstances),
		},
		"basic_scaling": r.refuse("it belongs to the standard environment", "use automatic_scaling or manual_scaling"),
		"endpoints_api_service": section{
			"name":             r.text(&v.Endpoints.Name, word, "a name"),
			"config_id":        r.text(&v.Endpoints.ConfigID, word, "a name"),
			"rollout_strategy": r.oneOf(&v.Endpoints.Rollout, "fixed", "managed"),
			"trace_sampling":   r.boolean(func(b bool) { v.Endpoints.TraceSampling = &b }),
		},

		"application":               r.refuse("it does not belong into the file", "remove it and use --project"),
		"project":                   r.refuse("it does not belong into the file", "remove it and use --project"),
		"version":                   r.refuse("it does not belong into the file", "remove it: each run and each deploy names its version"),
		"includes":                  r.refuse("other files are not read", "write the keys into this file"),
		"flexible_runtime_settings": r.refuse("App Engine's client drops it", "use runtime_config"),
		"vm_settings":               r.refuse("it is the old name of beta_settings", "use beta_settings"),
		"vm_health_check":           r.refuse("it is the old name of health_check", "use liveness_check and readiness_check"),
	}
	for _, key := range ignored {
		s[key] = value(r.ignore)
	}
	return s
}

// ignored are the keys that App Engine's client takes and flex has no use for;
// most belong to the standard environment. One warning names those in a file.
var ignored = []string{
	"admin_console", "api_config", "api_version", "app_engine_apis", "auto_id_policy", "builtins",
	"code_lock", "datastore_auto_id_policy", "default_expiration", "derived_file_type",
	"error_handlers", "handlers", "inbound_services", "instance_class", "java_precompiled",
	"libraries", "main", "nobuild_files", "pagespeed", "serverless", "source_language",
	"standard_websocket", "static_dir", "static_files", "threadsafe", "vpc_access", "vpc_access_connector", "zones",
}

// The shapes of text.
var (
	word        = regexp.MustCompile(`^\S{1,255}$`)
	account     = regexp.MustCompile(`^[^@\s]{1,255}@[^@\s]{1,255}$`)
	label       = regexp.MustCompile(`^[a-z\d]([a-z\d-]{0,61}[a-z\d])?$`)
	tag         = regexp.MustCompile(`^[a-z]([a-z\d-]{0,61}[a-z\d])?$`)
	networkName = regexp.MustCompile(`^[a-z\d-]{1,63}(/[a-z\d-]{1,63}){0,7}$`)
	volumeName  = tag
	host        = regexp.MustCompile(`^[A-Za-z\d_]([A-Za-z\d_.-]{0,251}[A-Za-z\d])?(:\d{1,5})?$`)
)

// ignore takes note of a key that has no effect, whatever its value.
func (r *reader) ignore(n *node) { r.ignored = append(r.ignored, n) }

// refuse is for keys that are known, and why they are refused.
func (r *reader) refuse(why, instead string) value {
	return func(n *node) {
		n.bad = true
		r.fail(n.key, n.name+": "+why, instead)
	}
}
