//! Reading files and telling kinds of documents apart.

use std::fs;

use super::*;

fn write(dir: &Path, file: &str, text: &str) {
    fs::write(dir.join(file), text).unwrap();
}

fn seen(documents: &Documents) -> Vec<String> {
    let finding = |f: &Finding| format!("{}:{} {}", f.place.file, f.place.line, f.code);
    documents.findings.iter().map(finding).collect()
}

#[test]
fn a_directory_is_read_in_the_order_of_names_and_not_descended() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "b.yml", "destination: b\n---\ndestination: c\n");
    write(dir.path(), "a.yaml", "\u{feff}destination: a\r\n");
    write(dir.path(), "c.json", "{\"destination\": \"d\"}");
    write(dir.path(), "d.txt", "not read");
    write(dir.path(), ".hidden.yaml", "not: read");
    fs::create_dir(dir.path().join("sub.yaml")).unwrap();
    write(&dir.path().join("sub.yaml"), "e.yaml", "destination: e");
    let documents = load(dir.path()).unwrap();
    let names: Vec<_> = documents.route_rules.iter().map(|d| &*d.name).collect();
    assert_eq!(names, ["a-1", "b-1", "b-2", "c-1"]);
    assert_eq!(&**documents.route_rules[2].position.file(), "b.yml");
    assert_eq!(documents.route_rules[2].position.line(), 3);
}

#[test]
fn unreadable_and_empty_configurations_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let empty = load(dir.path()).unwrap();
    assert_eq!(empty.findings[0].code, "no-configuration");
    let missing = load(&dir.path().join("missing")).unwrap_err();
    assert_eq!(missing[0].code, "unreadable-file");
    fs::write(dir.path().join("latin1.yaml"), b"destination: \xe4\n").unwrap();
    let latin1 = load(dir.path()).unwrap_err();
    assert_eq!(
        (latin1[0].code, &*latin1[0].place.file),
        ("unreadable-file", "latin1.yaml")
    );
}

#[test]
fn limits_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.yaml", "destination: a\n---\ndestination: b\n");
    write(dir.path(), "b.yaml", "destination: a\n");
    let read = |limits: LoadLimits| {
        seen(&read(
            [dir.path().join("a.yaml"), dir.path().join("b.yaml")],
            &limits,
        ))
    };
    let name = |file: &str| dir.path().join(file).display().to_string();
    let generous = LoadLimits::default();
    assert!(read(generous).is_empty());
    assert_eq!(
        read(LoadLimits {
            bytes: 40,
            ..generous
        }),
        [format!("{}:0 too-large", name("b.yaml"))]
    );
    assert_eq!(
        read(LoadLimits { bytes: 4, ..generous }),
        [format!("{}:0 too-large", name("a.yaml"))]
    );
    assert_eq!(
        read(LoadLimits { files: 1, ..generous }),
        [format!("{}:0 too-large", name("b.yaml"))]
    );
    assert_eq!(
        read(LoadLimits {
            documents: 1,
            ..generous
        }),
        [format!("{}:0 too-large", name("a.yaml"))]
    );
}

#[test]
fn bare_documents_are_told_apart_by_their_fields() {
    let mut documents = Documents::default();
    documents.add_text(
        "My Rules.yaml",
        "destination: a\n---\ndestination: b\ntags: {version: v1}\n---\ndestination: c\npolicy: []\n",
    );
    assert!(documents.findings.is_empty(), "{:?}", documents.findings);
    assert_eq!(&*documents.route_rules[0].name, "my-rules-1");
    let policies: Vec<_> = documents.destination_policies.iter().map(|d| &*d.name).collect();
    assert_eq!(policies, ["my-rules-2", "my-rules-3"]);
}

#[test]
fn objects_in_lists_have_places() {
    let list = "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: a}\n- metadata:\n    name: b\n  status:\n    \
                podIP: 7\n";
    let mut documents = Documents::default();
    documents.add_text("f.yaml", list);
    assert_eq!(documents.pods.len(), 1);
    assert_eq!(seen(&documents), ["f.yaml:8 wrong-type"]);
    assert_eq!(documents.findings[0].place.field, "items[1].status.podIP");
    assert_eq!(documents.findings[0].object.as_deref(), Some("pod b"));
}

#[test]
fn no_text_makes_the_reader_panic() {
    for text in [
        "",
        "\0",
        "---\n...\n---",
        "- a\n- b",
        "? [a]\n: b",
        "a: *b",
        "&a a: *a",
        "%YAML 9.9\n---\na: b",
        "!!binary x",
        "{",
        "]",
        "\"",
        "a: b: c",
        "type: route-rule\nname: x\nspec: 7",
        "kind: List\napiVersion: v1\nitems: 3",
        "destination: {}",
        "destination: [[[[]]]]",
        "apiVersion: v1\nkind: Pod\nmetadata: 3",
    ] {
        let mut documents = Documents::default();
        documents.add_text("f.yaml", text);
        let _ = crate::compile::compile(&documents);
    }
}

#[test]
fn large_files_keep_the_order_and_numbers_of_documents() {
    let comment = format!("# {}\n", "x".repeat(2000));
    let text: String = (0..3000)
        .map(|n| format!("---\n{comment}destination: d{n}\nprecedence: {n}\n"))
        .collect();
    let mut documents = Documents::default();
    documents.add_text("f.yaml", &text);
    assert_eq!(documents.route_rules.len(), 3000);
    for (n, rule) in (0..).zip(&documents.route_rules) {
        assert_eq!(&*rule.name, format!("f-{}", n + 1));
        assert_eq!(rule.body.precedence, Some(n));
        assert_eq!(rule.position.line(), 4 * n as u32 + 3);
    }
}
