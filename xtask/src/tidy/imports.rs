//! Who may import whom. The architecture is a set of absences; this is the list.

use super::{
    Fault,
    source::{NamedPath, Source},
};

/// Code that must not name certain paths.
struct Rule {
    /// Module or crate folders it holds for; see [`Source::is_in`].
    within: &'static [&'static str],
    /// Beginnings of paths.
    never: &'static [&'static str],
    because: &'static str,
}

const RULES: [Rule; 11] = [
    Rule {
        within: &["router-common/src"],
        never: &["std", "alloc", "serde", "tokio"],
        because: "router-common is the kernel ABI: core alone",
    },
    Rule {
        within: &["router-ebpf/src"],
        never: &["std", "alloc", "router_rules", "router_userspace"],
        because: "the kernel half knows nothing of userspace",
    },
    Rule {
        within: &["router-rules/src"],
        never: &[
            "tokio",
            "hyper",
            "hyper_util",
            "aya",
            "serde",
            "serde_yaml",
            "serde_json",
            "router_common",
            "libc",
            "socket2",
            "fastrand",
            "anyhow",
            "std::fs",
            "std::env",
            "std::process",
            "std::os",
            "std::thread",
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
        because: "the rule engine is pure: no sockets, files, clocks, YAML, BPF or runtime",
    },
    Rule {
        within: &["router-userspace/src/config"],
        never: &[
            "router_rules",
            "crate::compile",
            "crate::proxy",
            "crate::datapath",
            "crate::registry",
            "aya",
            "hyper",
        ],
        because: "config turns text into documents and knows nothing of what they mean",
    },
    Rule {
        within: &["router-userspace/src/compile"],
        never: &[
            "tokio",
            "hyper",
            "aya",
            "crate::clock",
            "crate::proxy",
            "crate::datapath",
            "std::fs",
            "std::env",
            "std::time::Instant",
            "std::time::SystemTime",
        ],
        because: "compile is pure: documents in, model out",
    },
    Rule {
        within: &["router-userspace/src/registry"],
        never: &["crate::proxy", "crate::datapath", "crate::config", "aya", "hyper"],
        because: "the registry knows neither YAML nor the two datapaths",
    },
    Rule {
        within: &["router-userspace/src/datapath"],
        never: &[
            "crate::proxy",
            "crate::config",
            "crate::compile",
            "crate::admin",
            "hyper",
            "hyper_util",
            "serde",
            "serde_yaml",
        ],
        because: "datapath and proxy meet in the snapshot only",
    },
    Rule {
        within: &["router-userspace/src/proxy"],
        never: &[
            "crate::config",
            "crate::compile",
            "crate::datapath",
            "crate::admin",
            "aya",
            "serde",
            "serde_yaml",
        ],
        because: "the proxy knows the snapshot, not where it came from nor the kernel's maps",
    },
    Rule {
        within: &["router-userspace/src/enforce", "router-userspace/src/live"],
        never: &[
            "crate::proxy",
            "crate::datapath",
            "crate::config",
            "crate::compile",
            "aya",
            "hyper",
        ],
        because: "it is where proxy and datapath meet without knowing each other",
    },
    Rule {
        within: &["router-userspace/src"],
        never: &["serde_yaml", "saphyr_parser"],
        because: "YAML is read in config alone, so that its library can be replaced",
    },
    Rule {
        within: &["router-userspace/src"],
        never: &["anyhow"],
        because: "libraries return errors that can be matched; anyhow is for the command line and the wiring",
    },
];

/// Modules that a rule of the whole crate does not hold for.
const EXCEPTIONS: [(&str, &str); 7] = [
    ("serde_yaml", "router-userspace/src/config"),
    ("saphyr_parser", "router-userspace/src/config"),
    ("serde_yaml", "router-userspace/src/cli"),
    ("anyhow", "router-userspace/src/cli"),
    ("anyhow", "router-userspace/src/app"),
    ("anyhow", "router-userspace/src/main"),
    ("anyhow", "router-userspace/src/sys"),
];

/// Forbidden paths in the production part of a file.
pub(super) fn check(source: &Source) -> Vec<Fault> {
    let rules = RULES
        .iter()
        .filter(|rule| rule.within.iter().any(|place| source.is_in(place)));
    let rules: Vec<_> = rules.collect();
    if rules.is_empty() {
        return Vec::new();
    }
    let mut faults = Vec::new();
    for path in source.paths().iter().filter(|path| !source.is_test(path.line)) {
        for rule in &rules {
            let found = rule
                .never
                .iter()
                .find(|never| path.begins_with(never) && !is_exception(never, source));
            faults.extend(found.map(|never| {
                Fault::new(
                    &source.path,
                    path.line,
                    format!("must not use `{never}`: {}", rule.because),
                )
            }));
        }
    }
    faults.dedup();
    faults
}

fn is_exception(never: &str, source: &Source) -> bool {
    EXCEPTIONS
        .iter()
        .any(|(path, place)| *path == never && source.is_in(place))
}

impl NamedPath {
    fn begins_with(&self, beginning: &str) -> bool {
        let beginning: Vec<_> = beginning.split("::").collect();
        self.segments.len() >= beginning.len()
            && beginning
                .iter()
                .zip(&self.segments)
                .all(|(want, have)| want == have)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        let source = Source::parse(path.to_owned(), text.to_owned()).unwrap();
        check(&source).iter().map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn a_forbidden_import_is_named_with_its_line_and_reason() {
        let found = faults(
            "router-userspace/src/proxy/http.rs",
            "//! x\nuse crate::{live::Live, config::Model};\n",
        );
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("router-userspace/src/proxy/http.rs:2: must not use `crate::config`"),
            "{found:?}"
        );
    }

    #[test]
    fn relative_paths_do_not_hide_a_module() {
        assert_eq!(
            faults("router-userspace/src/proxy.rs", "use super::datapath::Plan;").len(),
            1
        );
        assert_eq!(
            faults(
                "router-rules/src/weight.rs",
                "fn f() { std::time::Instant::now(); }"
            )
            .len(),
            1
        );
    }

    #[test]
    fn tests_and_allowed_neighbours_are_free() {
        assert!(
            faults(
                "router-rules/src/id.rs",
                "#[cfg(test)]\nmod tests { use serde_json::Value; }"
            )
            .is_empty()
        );
        assert!(faults("router-rules/src/id.rs", "use std::net::IpAddr;").is_empty());
        assert!(faults("router-userspace/src/config/load.rs", "use serde_yaml::Value;").is_empty());
        assert_eq!(
            faults("router-userspace/src/configuration.rs", "use serde_yaml::Value;").len(),
            1
        );
    }
}
