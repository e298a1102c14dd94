//! Following a change against compiling everything: random edits of a directory.

use std::fmt::Write as _;
use std::fs;

use proptest::prelude::*;
use router_rules::Snapshot;

use super::*;
use crate::{
    compile::compile,
    config::{Directory, LoadLimits, Suspects},
};

const RULES: &str = "\
type: route-rule
name: split
spec:
  destination: a
  route:
  - {tags: {version: v1}, weight: 75}
  - {tags: {version: v2}, weight: 25}
---
type: route-rule
name: other
spec:
  destination: b
  precedence: 2
  route:
  - {destination: a, tags: {version: v1}}
";
const FROM_C: &str = "---
type: route-rule
name: from
spec: {destination: b, precedence: 1, match: {source: c}, route: [{tags: {version: v1}}]}
";
const EJECTING: &str = "---
type: destination-policy
name: ejecting
spec:
  destination: b
  circuitBreaker: {simpleCb: {httpConsecutiveErrors: 3, httpMaxEjectionPercent: 50}}
";
const EXTERNAL: &str = "---
type: egress-rule
name: api
spec: {destination: {service: api.example.com}, ports: [{port: 80, protocol: TCP}]}
";

/// The service with its slices.
fn service(name: &str, slices: &[Vec<usize>]) -> String {
    let (address, ports, of_slices): (_, _, &[&str]) = match name {
        "a" => (1, "{name: one, port: 80}, {name: two, port: 81}", &["one", "two"]),
        "b" => (2, "{name: http, port: 80}", &["http"]),
        _ => (3, "{port: 80}", &[""]),
    };
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: 10.0.1.{address}, selector: {{app: {name}}}, ports: [{ports}]}}\n"
    );
    for (number, pods) in slices.iter().enumerate() {
        // The second slice has endpoints for one port only.
        let ports = if number == 0 { of_slices } else { &of_slices[..1] };
        text += &slice(name, number, ports, pods);
    }
    text
}

/// A slice of a service with these pods behind it. Number 9 is an address that is no pod's.
fn slice(service: &str, number: usize, ports: &[&str], pods: &[usize]) -> String {
    let mut text = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-{number}, \
         labels: {{kubernetes.io/service-name: {service}}}}}\nports:\n"
    );
    for (index, port) in ports.iter().enumerate() {
        let _ = writeln!(text, "- {{name: '{port}', port: {}}}", 9000 + index);
    }
    text.push_str("endpoints:\n");
    for pod in pods {
        let _ = match pod {
            9 => writeln!(text, "- addresses: [10.9.0.9]"),
            _ => writeln!(
                text,
                "- addresses: [10.1.0.{pod}]\n  targetRef: {{kind: Pod, name: p{pod}}}"
            ),
        };
    }
    text
}

fn pods(ended: Option<usize>) -> String {
    let pod = |number: usize| {
        let version = number % 2 + 1;
        let phase = if ended == Some(number) {
            "Failed"
        } else {
            "Running"
        };
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}, labels: {{app: a, version: v{version}}}}}\n\
             status: {{phase: {phase}, podIP: 10.1.0.{number}}}\n"
        )
    };
    (0..6).map(pod).collect()
}

/// Everything there is to a snapshot. Maps have no order, so lines have none.
fn shown(snapshot: &Snapshot) -> Vec<String> {
    let mut lines: Vec<_> = format!("{snapshot:#?}").lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// What is in force, and what it was made of.
struct World {
    path: tempfile::TempDir,
    directory: Directory,
    memo: Option<Memo>,
    in_force: Snapshot,
    model: Model,
    warnings: Vec<Finding>,
    followed: usize,
}

impl World {
    fn new(rules: &str) -> Self {
        let path = tempfile::tempdir().unwrap();
        let mut world = Self {
            directory: Directory::new(path.path().to_owned(), LoadLimits::default()),
            path,
            memo: None,
            in_force: Snapshot::default(),
            model: Model::default(),
            warnings: Vec::new(),
            followed: 0,
        };
        for name in ["a", "b", "c"] {
            fs::write(
                world.path.path().join(format!("{name}.yaml")),
                service(name, &[vec![0, 1], vec![]]),
            )
            .unwrap();
        }
        fs::write(world.path.path().join("rules.yaml"), rules).unwrap();
        world.write("pods.yaml", &pods(None));
        world
    }

    /// Writes a file and puts the directory in force.
    fn write(&mut self, file: &str, text: &str) {
        let file = self.path.path().join(file);
        fs::write(&file, text).unwrap();
        self.directory.look(&Suspects::Files([file].into()));
        self.put();
    }

    /// Puts the files in force, and says what is wrong with following.
    fn put(&mut self) {
        let whole = compile(&self.directory.documents());
        let generation = self.in_force.generation() + 1;
        let followed = self.memo.as_ref().and_then(|memo| {
            let followed = memo.follow(&self.directory.changed()?)?;
            let snapshot = self.in_force.with_endpoints(&followed.change, generation)?;
            Some((followed, snapshot))
        });
        match (whole, followed) {
            (Ok(compiled), Some((followed, snapshot))) => {
                let memo = self.memo.as_mut().unwrap();
                self.model.change_endpoints(&followed.change);
                memo.advance(followed);
                assert_eq!(self.model, compiled.model);
                assert_eq!(self.warnings, compiled.findings);
                let fresh = Memo::new(self.directory.files(), &compiled);
                assert_eq!(memo.entries, fresh.entries);
                assert_eq!(
                    shown(&snapshot),
                    shown(&Snapshot::build(compiled.model, generation))
                );
                self.followed += 1;
                self.in_force = snapshot;
            }
            (Ok(compiled), None) => {
                self.memo = Some(Memo::new(self.directory.files(), &compiled));
                self.model = compiled.model.clone();
                self.warnings = compiled.findings;
                self.in_force = Snapshot::build(compiled.model, generation);
            }
            (Err(findings), None) => {
                assert!(!findings.is_empty());
                return;
            }
            (Err(findings), Some(_)) => panic!("{findings:?}"),
        }
        self.directory.settle();
    }
}

#[test]
fn other_endpoints_of_a_service_are_followed() {
    let mut world = World::new(RULES);
    for (number, pods) in [[1, 2], [2, 3], [0, 5], [3, 4]].into_iter().enumerate() {
        world.write("a.yaml", &service("a", &[pods.to_vec(), vec![0]]));
        assert_eq!(world.followed, number + 1);
    }
    // The last pod of a version: there is more to say than before.
    world.write("a.yaml", &service("a", &[vec![0, 2], vec![0]]));
    assert_eq!(world.followed, 4);
    // An address that was unknown until now is more than an endpoint.
    world.write("b.yaml", &service("b", &[vec![0, 9], vec![]]));
    assert_eq!(world.followed, 4);
}

#[test]
fn a_file_that_is_mended_is_compared_with_what_is_in_force() {
    let mut world = World::new(RULES);
    world.write("a.yaml", "a: [");
    world.write("a.yaml", &service("a", &[vec![2, 3], vec![]]));
    assert_eq!(world.followed, 1);
}

#[test]
fn whoever_may_be_ejected_is_counted() {
    let mut world = World::new(&(RULES.to_owned() + EJECTING));
    world.write("b.yaml", &service("b", &[vec![1, 2], vec![]]));
    assert_eq!(world.followed, 1);
    world.write("b.yaml", &service("b", &[vec![2], vec![]]));
    assert_eq!(world.followed, 1);
}

#[derive(Clone, Debug)]
enum Edit {
    Service(&'static str, Vec<usize>, Vec<usize>),
    Pods(Option<usize>),
    Rules(usize),
    Broken,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let some = || {
        let pod = prop_oneof![12 => 0_usize..6, 1 => Just(9_usize)];
        proptest::collection::vec(pod, 0..5)
    };
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    let edit = prop_oneof![
        10 => (name, some(), some()).prop_map(|(name, one, two)| Edit::Service(name, one, two)),
        1 => proptest::option::of(0_usize..6).prop_map(Edit::Pods),
        1 => (0_usize..8).prop_map(Edit::Rules),
        1 => Just(Edit::Broken),
    ];
    proptest::collection::vec(edit, 1..12)
}

fn rules(which: usize) -> String {
    let part = |bit: usize, text: &'static str| if which & bit > 0 { text } else { "" };
    [RULES, part(1, FROM_C), part(2, EJECTING), part(4, EXTERNAL)].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_followed_is_what_would_be_compiled(edits in edits(), which in 0_usize..8) {
        let mut world = World::new(&rules(which));
        for edit in edits {
            match edit {
                Edit::Service(name, one, two) => world.write(&format!("{name}.yaml"), &service(name, &[one, two])),
                Edit::Pods(ended) => world.write("pods.yaml", &pods(ended)),
                Edit::Rules(which) => world.write("rules.yaml", &rules(which)),
                Edit::Broken => world.write("a.yaml", "a: ["),
            }
        }
    }
}
