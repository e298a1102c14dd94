//! `router create`, `replace`, `get`, `delete` and `diff` on configuration directories: what they write, what they
//! refuse, how they end, and that several at once lose nothing.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use router_userspace::{cli, compile::compile, config};
use tempfile::TempDir;

const REFUSED: u8 = 1;
const USAGE: u8 = 2;

/// A copy of the demo's configuration.
fn bookinfo() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace");
    for file in ["rules.yaml", "services.yaml"] {
        let from = workspace.join("examples/bookinfo").join(file);
        fs::copy(from, directory.path().join(file)).expect("a copy");
    }
    directory
}

fn run(directory: &Path, arguments: &[&str]) -> ExitCode {
    let config = ["--config".into(), directory.as_os_str().to_owned()];
    let arguments = ["router"].iter().chain(arguments).map(OsString::from);
    cli::run(arguments.chain(config))
}

/// Runs `router VERB -f FILE`, with `text` in the file.
fn apply(verb: &str, directory: &Path, text: &str) -> ExitCode {
    let input = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
    fs::write(input.path(), text).expect("written");
    run(directory, &[verb, "-f", &input.path().display().to_string()])
}

/// Every file with its text.
fn texts(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), fs::read_to_string(path).expect("text")))
        .collect();
    files.sort();
    files
}

fn rule(name: &str, destination: &str, rest: &str) -> String {
    format!("type: route-rule\nname: {name}\nspec:\n  destination: {destination}\n{rest}")
}

fn names(directory: &Path) -> BTreeSet<String> {
    let documents = config::load(directory).expect("a sound directory");
    documents.declared.iter().map(|d| d.key.to_string()).collect()
}

#[test]
fn the_seeds_command_works_on_the_demo() {
    let directory = bookinfo();
    let before = texts(directory.path());
    let weight = |weight| {
        rule(
            "productpage-default",
            "productpage",
            &format!("  route:\n  - weight: {weight}\n"),
        )
    };
    assert_eq!(apply("diff", directory.path(), &weight(100)), ExitCode::SUCCESS);
    assert_eq!(texts(directory.path()), before, "diff changes nothing");
    assert_eq!(apply("replace", directory.path(), &weight(100)), REFUSED.into());
    assert_eq!(apply("create", directory.path(), &weight(100)), ExitCode::SUCCESS);
    assert_eq!(apply("create", directory.path(), &weight(90)), REFUSED.into());
    let file = directory.path().join("route-rule-productpage-default.yaml");
    assert_eq!(fs::read_to_string(&file).expect("there"), weight(100));
    assert_eq!(apply("replace", directory.path(), &weight(90)), ExitCode::SUCCESS);
    assert_eq!(fs::read_to_string(&file).expect("there"), weight(90));
    let delete = ["delete", "route-rules", "productpage-default"];
    assert_eq!(run(directory.path(), &delete), ExitCode::SUCCESS);
    assert_eq!(texts(directory.path()), before);
    assert_eq!(run(directory.path(), &delete), REFUSED.into());
}

#[test]
fn a_shared_file_keeps_its_other_documents() {
    let directory = bookinfo();
    let path = directory.path().join("rules.yaml");
    let before = fs::read_to_string(&path).expect("there");
    let body = "type: route-rule\nname: reviews-default\nspec:\n  destination: reviews\n  route:\n  - tags: {version: v1}\n";
    assert_eq!(apply("replace", directory.path(), body), ExitCode::SUCCESS);
    let after = fs::read_to_string(&path).expect("there");
    let start = before
        .find("type: route-rule\nname: reviews-default\n")
        .expect("there");
    let end = start + before[start..].find("---\n").expect("followed by others");
    assert_eq!(after, [&before[..start], body, &before[end..]].concat());
}

#[test]
fn what_does_not_compile_is_refused_whole() {
    let directory = bookinfo();
    let before = texts(directory.path());
    let good = rule("good", "reviews", "");
    for bad in [
        rule("bad", "reviews", "  wieght: 1\n"),
        rule("bad", "reviews", "  route:\n  - weight: 101\n"),
        rule("bad", "reviews", "  redirect: [\n"),
        rule("good", "ratings", ""),
        "type: ingress-rule\nname: i\nspec: {destination: reviews, ports: []}\n".to_owned(),
        "apiVersion: config.istio.io/v1alpha2\nkind: EgressRule\nmetadata: {name: e}\nspec: {}\n".to_owned(),
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {}\n".to_owned(),
        "type: pod\nname: p\nspec: {}\n".to_owned(),
    ] {
        for verb in ["create", "replace", "diff", "delete"] {
            let result = apply(verb, directory.path(), &format!("{good}---\n{bad}"));
            assert_eq!(result, REFUSED.into(), "{verb} {bad}");
            assert_eq!(texts(directory.path()), before, "{verb} {bad}");
        }
    }
    assert_eq!(apply("create", directory.path(), "# nothing\n"), REFUSED.into());
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    let directory = bookinfo();
    let path = directory.path();
    for arguments in [
        &["create", "route-rule"][..],
        &["replace", "x"],
        &["delete"],
        &["delete", "route-rule"],
        &["delete", "route-rule", "a", "-f", "x"],
        &["delete", "pod", "a"],
        &["get"],
        &["get", "pods"],
        &["get", "route-rules", "-o", "xml"],
    ] {
        assert_eq!(run(path, arguments), USAGE.into(), "{arguments:?}");
    }
    for arguments in [
        &["get", "egress-rule", "a"][..],
        &["get", "route-rule", "nope"],
        &["delete", "ingress-rule", "a"],
        &["create", "-f", "/nonexistent"],
    ] {
        assert_eq!(run(path, arguments), REFUSED.into(), "{arguments:?}");
    }
    assert_eq!(
        run(&path.join("nonexistent"), &["get", "route-rules"]),
        REFUSED.into()
    );
    for arguments in [
        &["get", "route-rules"][..],
        &["get", "destination-policies", "-o", "json"],
        &["get", "route-rules", "-n", "empty"],
        &["get", "ingress-rules"],
        &["get", "egressrule"],
        &["get", "route-rule", "reviews-jason", "-o", "json"],
    ] {
        assert_eq!(run(path, arguments), ExitCode::SUCCESS, "{arguments:?}");
    }
}

#[test]
fn deleting_by_file_is_all_or_nothing() {
    let directory = bookinfo();
    let before = names(directory.path());
    let three = [
        rule("a", "reviews", ""),
        rule("b", "ratings", ""),
        rule("c", "mongodb", ""),
    ]
    .join("---\n");
    assert_eq!(apply("create", directory.path(), &three), ExitCode::SUCCESS);
    assert_eq!(names(directory.path()).len(), before.len() + 3);
    let with_a_stranger = format!("{three}---\n{}", rule("d", "reviews", ""));
    assert_eq!(
        apply("delete", directory.path(), &with_a_stranger),
        REFUSED.into()
    );
    assert_eq!(names(directory.path()).len(), before.len() + 3);
    assert_eq!(apply("delete", directory.path(), &three), ExitCode::SUCCESS);
    assert_eq!(names(directory.path()), before);
}

#[test]
fn many_at_once_lose_nothing() {
    const WRITERS: usize = 8;
    const OBJECTS: usize = 6;
    let directory = bookinfo();
    let path = directory.path();
    let shared: Vec<_> = (0..WRITERS)
        .map(|n| rule(&format!("shared-{n}"), "reviews", ""))
        .collect();
    fs::write(path.join("shared.yaml"), shared.join("---\n")).expect("written");
    let before = names(path);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                for object in 0..OBJECTS {
                    let new = rule(&format!("w{writer}-{object}"), "ratings", "");
                    assert_eq!(apply("create", path, &new), ExitCode::SUCCESS);
                    let own = rule(
                        &format!("shared-{writer}"),
                        "reviews",
                        &format!("  precedence: {object}\n"),
                    );
                    assert_eq!(apply("replace", path, &own), ExitCode::SUCCESS);
                }
                let gone = format!("w{writer}-0");
                assert_eq!(run(path, &["delete", "route-rule", &gone]), ExitCode::SUCCESS);
            });
        }
        // Whoever reads meanwhile sees only whole configurations.
        for _ in 0..50 {
            let documents = config::load(path).expect("whole files");
            assert!(compile(&documents).is_ok());
        }
    });
    assert_eq!(names(path).len(), before.len() + WRITERS * (OBJECTS - 1));
    let text = fs::read_to_string(path.join("shared.yaml")).expect("there");
    assert_eq!(
        text.matches(&format!("precedence: {}", OBJECTS - 1)).count(),
        WRITERS
    );
    let leftovers = texts(path)
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|e| e == "tmp"));
    assert_eq!(leftovers.count(), 0);
}

#[test]
fn objects_without_a_namespace_go_where_they_are_told() {
    let directory = bookinfo();
    let path = directory.path();
    let there = |verb: &str, text: &str| {
        let input = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
        fs::write(input.path(), text).expect("written");
        run(
            path,
            &[verb, "-n", "prod", "-f", &input.path().display().to_string()],
        )
    };
    let full = "reviews.default.svc.cluster.local";
    let own = format!("# about it\n{}", rule("one", full, "  precedence: 7\n"));
    let elsewhere = format!(
        "type: route-rule\nname: two\nnamespace: test\nspec:\n  destination: {full}\n  precedence: 8\n"
    );
    assert_eq!(
        there("create", &format!("{own}---\n{elsewhere}")),
        ExitCode::SUCCESS
    );
    let created: Vec<_> = names(path)
        .into_iter()
        .filter(|name| name.contains('/'))
        .collect();
    assert_eq!(created, ["route-rule prod/one", "route-rule test/two"]);
    let file = path.join("route-rule-prod.one.yaml");
    assert!(
        fs::read_to_string(&file)
            .expect("text")
            .starts_with("# about it\ntype: route-rule\nname: one\nnamespace: prod\n")
    );
    assert_eq!(there("replace", &own.replace('7', "9")), ExitCode::SUCCESS);
    assert!(fs::read_to_string(&file).expect("text").contains("precedence: 9"));
    assert_eq!(there("create", &own), ExitCode::from(REFUSED));
    assert_eq!(there("delete", &own), ExitCode::SUCCESS);
    assert!(!names(path).contains("route-rule prod/one"));
}
