//! What schemas cannot see: whether the objects of one release agree with each other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// All objects of a release.
pub struct Objects {
    /// As rendered.
    pub all: Vec<Value>,
}

/// Whether it is of a kind that Kubernetes itself does not know.
pub fn is_custom(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap();
    version.starts_with("gateway.networking.k8s.io") || version.starts_with("monitoring.coreos.com")
}

fn labels(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

fn selects(selector: Option<&Value>, of: &Map<String, Value>) -> bool {
    let selector = labels(selector);
    !selector.is_empty() && selector.iter().all(|(key, value)| of.get(key) == Some(value))
}

fn list<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn numbers(values: &[Value], key: &str) -> BTreeSet<u64> {
    values.iter().map(|v| v[key].as_u64().unwrap_or_else(|| panic!("{key} of {v} is no number"))).collect()
}

impl Objects {
    /// Reads what Helm wrote.
    pub fn read(text: &str) -> Self {
        let all = text.split("\n---\n").map(|document| {
            let document = document.trim_start_matches("---\n");
            serde_saphyr::from_str::<Value>(document).unwrap_or_else(|e| panic!("{e} in\n{document}"))
        });
        Self { all: all.filter(|object| !object.is_null()).collect() }
    }

    /// In an order that does not depend on the version of Helm.
    pub fn sorted(&self) -> BTreeMap<String, Value> {
        let key = |o: &Value| format!("{} {}", o["kind"], o["metadata"]["name"]);
        let sorted: BTreeMap<_, _> = self.all.iter().map(|o| (key(o), o.clone())).collect();
        assert_eq!(sorted.len(), self.all.len(), "each kind and name once");
        sorted
    }

    fn kind(&self, kind: &str) -> Vec<&Value> {
        self.all.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The only one of its kind.
    pub fn one(&self, kind: &str) -> &Value {
        let found = self.kind(kind);
        assert_eq!(found.len(), 1, "{kind}");
        found[0]
    }

    /// The container of Sluis, and whether it is a sidecar.
    fn sluis(&self) -> (&Value, bool) {
        let pod = &self.one("Deployment")["spec"]["template"]["spec"];
        let named = |path| list(pod, path).iter().find(|c| c["name"] == "sluis");
        match (named("/initContainers"), named("/containers")) {
            (Some(container), None) => (container, true),
            (None, Some(container)) => (container, false),
            other => panic!("{other:?}"),
        }
    }

    /// The configuration file.
    fn config(&self) -> (String, Value) {
        let text = self.one("ConfigMap")["data"]["config.yaml"].as_str().unwrap().to_owned();
        let config = serde_saphyr::from_str(&text).unwrap();
        (text, config)
    }

    /// Fails when two of them do not agree.
    pub fn assert_sound(&self, name: &str) {
        self.assert_named(name);
        self.assert_pod_is_whole(name);
        self.assert_pods_are_restricted(name);
        self.assert_selectors(name);
        self.assert_ports(name);
        self.assert_way_in(name);
        self.assert_stop(name);
    }

    fn assert_named(&self, name: &str) {
        for object in &self.all {
            let own = object["metadata"]["name"].as_str().unwrap();
            assert!(own.len() <= 63 && !own.is_empty(), "{name}: {own}");
            for (key, value) in labels(object.pointer("/metadata/labels")) {
                assert!(value.as_str().is_some_and(|v| v.len() <= 63), "{name}: {key}: {value}");
            }
            if own != "legacy" {
                assert_eq!(
                    object["metadata"]["labels"]["app.kubernetes.io/instance"], "rel",
                    "{name}: {own}"
                );
            }
        }
    }

    /// Mounts have their volumes, volumes their objects; what must reload is mounted as a directory.
    fn assert_pod_is_whole(&self, name: &str) {
        let pod = &self.one("Deployment")["spec"]["template"]["spec"];
        let volumes: BTreeMap<&str, &Value> =
            list(pod, "/volumes").iter().map(|v| (v["name"].as_str().unwrap(), v)).collect();
        assert_eq!(volumes.len(), list(pod, "/volumes").len(), "{name}: each volume once");
        let mut used = BTreeSet::new();
        for container in [list(pod, "/initContainers"), list(pod, "/containers")].concat() {
            let mut paths = BTreeSet::new();
            for mount in list(&container, "/volumeMounts") {
                let volume = mount["name"].as_str().unwrap();
                assert!(volumes.contains_key(volume), "{name}: no volume {volume}");
                assert!(mount.get("subPath").is_none(), "{name}: {mount} would never follow a change");
                assert!(paths.insert(mount["mountPath"].to_string()), "{name}: {mount} covers another");
                let ours = volume.starts_with("sluis-");
                assert!(!ours || container["name"] == "sluis", "{name}: only Sluis sees {volume}");
                used.insert(volume.to_owned());
            }
        }
        let all: BTreeSet<String> = volumes.keys().map(|v| (*v).to_owned()).collect();
        assert_eq!(all, used, "{name}: every volume is mounted");
        let config = &volumes["sluis-config"]["configMap"]["name"];
        assert_eq!(config, &self.one("ConfigMap")["metadata"]["name"], "{name}");
        for secret in volumes.values().filter_map(|v| v.get("secret")) {
            assert_eq!(secret["defaultMode"], 0o440, "{name}: {secret}");
            assert!(secret["secretName"].as_str().is_some_and(|s| !s.is_empty()), "{name}: {secret}");
        }
        match volumes.get("sluis-data") {
            Some(data) => {
                let claim = data["persistentVolumeClaim"]["claimName"].as_str().unwrap();
                let made = self.kind("PersistentVolumeClaim").iter().any(|c| c["metadata"]["name"] == claim);
                assert!(made || claim == "old-data", "{name}: nobody makes {claim}");
                assert_eq!(
                    self.one("Deployment")["spec"]["strategy"]["type"],
                    "Recreate",
                    "{name}: one owner"
                );
                assert_eq!(self.one("Deployment")["spec"]["replicas"], 1, "{name}: one owner");
            }
            None => assert!(self.kind("PersistentVolumeClaim").is_empty(), "{name}"),
        }
        let account = pod["serviceAccountName"].as_str();
        let made = self.kind("ServiceAccount").iter().any(|a| a["metadata"]["name"].as_str() == account);
        assert!(made || matches!(account, None | Some("default")), "{name}: nobody makes {account:?}");
    }

    /// The Pod security standard "restricted", and more.
    fn assert_pods_are_restricted(&self, name: &str) {
        let pod = &self.one("Deployment")["spec"]["template"]["spec"];
        let own_chart = self.one("Deployment")["metadata"]["name"] == "legacy";
        for path in ["/hostNetwork", "/hostPID", "/hostIPC", "/shareProcessNamespace"] {
            assert!(pod.pointer(path).is_none(), "{name}: {path}");
        }
        assert!(pod["securityContext"]["fsGroup"].as_u64().is_some_and(|group| group > 0), "{name}");
        for container in [list(pod, "/initContainers"), list(pod, "/containers")].concat() {
            if own_chart && container["name"] != "sluis" {
                continue;
            }
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}: {context}");
            assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }), "{name}");
            assert_eq!(context["runAsNonRoot"], true, "{name}");
            assert_eq!(context["seccompProfile"], json!({ "type": "RuntimeDefault" }), "{name}");
            assert!(context.get("privileged").is_none(), "{name}");
        }
        let (sluis, _) = self.sluis();
        let context = &sluis["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert!(context["runAsUser"].as_u64().is_some_and(|user| user > 0), "{name}");
        // the group of the process reads what the group may read
        assert_eq!(context["runAsGroup"], pod["securityContext"]["fsGroup"], "{name}");
        assert!(sluis["resources"]["limits"]["memory"].is_string(), "{name}");
        assert!(sluis.get("env").is_none(), "{name}: nothing secret comes by the environment");
    }

    /// Whatever selects Pods selects those of the Deployment, and nothing selects nothing.
    fn assert_selectors(&self, name: &str) {
        let deployment = self.one("Deployment");
        let pods = labels(deployment.pointer("/spec/template/metadata/labels"));
        let mut asked = vec![("Deployment", deployment.pointer("/spec/selector/matchLabels"))];
        asked.extend(self.kind("Service").iter().map(|s| ("Service", s.pointer("/spec/selector"))));
        for kind in ["PodDisruptionBudget", "NetworkPolicy"] {
            let path = if kind == "NetworkPolicy" {
                "/spec/podSelector/matchLabels"
            } else {
                "/spec/selector/matchLabels"
            };
            let ours = self
                .kind(kind)
                .into_iter()
                .filter(|o| !o["metadata"]["name"].as_str().unwrap().ends_with("-ecd"));
            asked.extend(ours.map(|o| (kind, o.pointer(path))));
        }
        let spread = list(deployment, "/spec/template/spec/topologySpreadConstraints");
        asked.extend(spread.iter().map(|s| ("spread", s.pointer("/labelSelector/matchLabels"))));
        for (what, selector) in asked {
            assert!(selects(selector, &pods), "{name}: {what}: {selector:?} does not select {pods:?}");
        }
        for monitor in self.kind("ServiceMonitor") {
            let selector = monitor.pointer("/spec/selector/matchLabels");
            let services = self.kind("Service");
            let found: Vec<_> = services
                .iter()
                .filter(|s| selects(selector, &labels(s.pointer("/metadata/labels"))))
                .collect();
            assert_eq!(found.len(), 1, "{name}: one Service is scraped");
            let port = &monitor["spec"]["endpoints"][0]["port"];
            assert!(list(found[0], "/spec/ports").iter().any(|p| p["name"] == *port), "{name}: {port}");
        }
    }

    /// Ports of configuration, container, probes, Service and NetworkPolicy are the same ones, by number.
    fn assert_ports(&self, name: &str) {
        let (sluis, sidecar) = self.sluis();
        let (_, config) = self.config();
        let port =
            |path: &str| -> Option<u64> { config.pointer(path)?.as_str()?.rsplit(':').next()?.parse().ok() };
        let operations = port("/listen/operations").unwrap();
        let public: BTreeSet<u64> =
            [port("/listen/http/address"), port("/listen/https/address")].into_iter().flatten().collect();
        let admin = port("/listen/admin/address");
        let mut all = public.clone();
        all.insert(operations);
        all.extend(admin);
        assert_eq!(numbers(list(sluis, "/ports"), "containerPort"), all, "{name}: the container's ports");
        for (probe, path) in
            [("startupProbe", "/livez"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]
        {
            assert_eq!(
                sluis[probe]["httpGet"],
                json!({ "path": path, "port": operations }),
                "{name}: {probe}"
            );
        }
        for service in self.kind("Service") {
            let targets = numbers(list(service, "/spec/ports"), "targetPort");
            let inner = service["metadata"]["name"].as_str().unwrap().ends_with("-operations");
            let of_admin = service["metadata"]["name"].as_str().unwrap().ends_with("-admin");
            let expected = match (inner, of_admin) {
                (true, _) => BTreeSet::from([operations]),
                (_, true) => admin.into_iter().collect(),
                _ => public.clone(),
            };
            assert!(!of_admin || service["spec"]["type"] == "ClusterIP", "{name}: inside the cluster");
            assert_eq!(targets, expected, "{name}: the Service leads to Sluis and nowhere else");
            assert!(!inner || service["spec"]["clusterIP"] == "None", "{name}");
        }
        for policy in self.kind("NetworkPolicy") {
            assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]), "{name}");
            if policy["metadata"]["name"].as_str().unwrap().ends_with("-ecd") {
                let pods = labels(self.one("Deployment").pointer("/spec/template/metadata/labels"));
                let from = list(policy, "/spec/ingress/0/from");
                assert_eq!((list(policy, "/spec/ingress").len(), from.len()), (1, 1), "{name}");
                assert!(selects(from[0].pointer("/podSelector/matchLabels"), &pods), "{name}: Sluis gets in");
                assert!(from[0].get("namespaceSelector").is_none(), "{name}: of this namespace only");
                continue;
            }
            let mut open = BTreeSet::new();
            for rule in list(policy, "/spec/ingress") {
                let ports = numbers(list(rule, "/ports"), "port");
                assert!(!ports.is_empty(), "{name}: a rule without ports would open all of them");
                assert!(
                    !ports.contains(&operations) || !list(rule, "/from").is_empty(),
                    "{name}: metrics are not for all"
                );
                let of_admin = admin.is_some_and(|admin| ports.contains(&admin));
                assert!(
                    !of_admin || (ports.len() == 1 && !list(rule, "/from").is_empty()),
                    "{name}: administration is for those named"
                );
                open.extend(ports);
            }
            open.remove(&operations);
            admin.inspect(|admin| {
                open.remove(admin);
            });
            assert_eq!(open, public, "{name}: every other port, the app's too, is closed");
        }
        if sidecar {
            assert_eq!(sluis["restartPolicy"], "Always", "{name}: a native sidecar");
            for app in list(&config, "/apps") {
                for upstream in list(app, "/upstreams") {
                    let upstream = upstream.as_str().unwrap();
                    assert!(upstream.starts_with("http://127.0.0.1:"), "{name}: {upstream}");
                    let port: u64 = upstream.rsplit(':').next().unwrap().parse().unwrap();
                    assert!(!all.contains(&port), "{name}: {port}");
                }
            }
        } else {
            assert!(sluis.get("restartPolicy").is_none(), "{name}");
        }
    }

    /// Ingress and route lead to a port that the Service has.
    fn assert_way_in(&self, name: &str) {
        let services = self.kind("Service");
        let service = |wanted: &Value| {
            *services
                .iter()
                .find(|s| s["metadata"]["name"] == *wanted)
                .unwrap_or_else(|| panic!("{name}: {wanted}"))
        };
        for ingress in self.kind("Ingress") {
            let rules = list(ingress, "/spec/rules");
            assert!(!rules.is_empty(), "{name}");
            for rule in rules {
                let backend = rule.pointer("/http/paths/0/backend/service").unwrap();
                let ports = list(service(&backend["name"]), "/spec/ports");
                assert!(ports.iter().any(|p| p["name"] == backend["port"]["name"]), "{name}: {backend}");
                for tls in list(ingress, "/spec/tls") {
                    assert!(list(tls, "/hosts").contains(&rule["host"]), "{name}: {}", rule["host"]);
                }
            }
        }
        for route in self.kind("HTTPRoute") {
            let backend = route.pointer("/spec/rules/0/backendRefs/0").unwrap();
            let ports = list(service(&backend["name"]), "/spec/ports");
            assert!(
                ports.iter().any(|p| p["port"] == backend["port"] && p["name"] == "http"),
                "{name}: {backend}"
            );
            assert!(!list(route, "/spec/hostnames").is_empty(), "{name}");
        }
    }

    /// Kubernetes waits longer than Sluis needs to stop.
    fn assert_stop(&self, name: &str) {
        let pod = &self.one("Deployment")["spec"]["template"]["spec"];
        let (_, config) = self.config();
        let seconds = |path: &str| -> u64 {
            config.pointer(path).unwrap().as_str().unwrap().trim_end_matches('s').parse().unwrap()
        };
        let mut needed = seconds("/shutdown/delay") + seconds("/shutdown/drain");
        if self.sluis().1 {
            assert_eq!(seconds("/shutdown/delay"), 0, "{name}: the app has ended before its sidecar");
            let app = &list(pod, "/containers")[0];
            needed += app.pointer("/lifecycle/preStop/sleep/seconds").unwrap().as_u64().unwrap() + 1;
        }
        assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > needed, "{name}: {needed}");
    }

    /// The real `sluis check` accepts the configuration, with its files where the Pod mounts them.
    pub fn assert_accepted(&self, name: &str) {
        let (text, config) = self.config();
        let root = tempfile::tempdir().unwrap();
        let (sluis, _) = self.sluis();
        for mount in list(sluis, "/volumeMounts") {
            let path = mount["mountPath"].as_str().unwrap().trim_start_matches('/');
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let at = |path: &str| root.path().join(path.trim_start_matches('/'));
        for (index, key) in list(&config, "/keys").iter().enumerate() {
            let key = at(key["file"].as_str().unwrap());
            std::fs::write(
                key,
                data_encoding::BASE64.encode(format!("{index:0>8}0123456789abcdefghijklmnopq").as_bytes()),
            )
            .unwrap();
        }
        for https in ["/listen/https", "/listen/admin"].into_iter().filter_map(|path| config.pointer(path)) {
            let made = rcgen::generate_simple_self_signed(["ecd.example.org".into()]).unwrap();
            std::fs::write(at(https["certificate_file"].as_str().unwrap()), made.cert.pem()).unwrap();
            std::fs::write(at(https["key_file"].as_str().unwrap()), made.signing_key.serialize_pem())
                .unwrap();
        }
        for file in text.split_whitespace().filter(|word| word.starts_with("/etc/sluis/redis/")) {
            std::fs::write(at(file), "redis-secret").unwrap();
        }
        for file in text.split_whitespace().filter(|word| word.starts_with("/etc/sluis/mail/")) {
            let made = rcgen::generate_simple_self_signed(["mail.example.org".into()]).unwrap();
            std::fs::write(at(file), made.cert.pem()).unwrap();
        }
        let mut text = text;
        for mounted in ["/etc/sluis", "/var/lib/sluis", "/run/sluis"] {
            text = text.replace(mounted, &at(mounted).display().to_string());
        }
        let arguments: Vec<String> =
            list(sluis, "/args").iter().map(|a| a.as_str().unwrap().to_owned()).collect();
        assert_eq!(arguments[..2], ["serve", "--config"], "{name}");
        let file = at(&arguments[2]);
        std::fs::write(&file, text).unwrap();
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_sluis"))
            .args(["check", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{name}: {said}\n{config:#}");
    }
}
