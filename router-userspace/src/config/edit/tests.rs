//! Drafts on real directories: what changes, what stays, what is refused.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use proptest::prelude::*;

use super::*;
use crate::config::rules_v1alpha1::RuleKind;

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn rule(name: &str) -> ObjectKey {
    ObjectKey {
        kind: RuleKind::RouteRule,
        namespace: DEFAULT_NAMESPACE.into(),
        name: name.into(),
    }
}

fn input(file: &str, text: &str) -> Vec<Declared> {
    let mut documents = Documents::default();
    documents.add_text(file, text);
    documents.declared.iter().cloned().collect()
}

fn named(name: &str, destination: &str) -> String {
    format!("type: route-rule\nname: {name}\nspec: {{destination: {destination}}}\n")
}

/// Names of the rules that the directory holds, in the order of reading.
fn names(draft: &Draft) -> Vec<String> {
    let declared = draft.documents().declared;
    declared.into_iter().map(|d| d.key.name.to_string()).collect()
}

fn text(directory: &tempfile::TempDir, file: &str) -> String {
    fs::read_to_string(directory.path().join(file)).unwrap()
}

#[test]
fn new_objects_get_files_of_their_own_that_were_not_there() {
    let other = "# no rule, but the name is taken\n";
    let directory = directory(&[("route-rule-a.yaml", other)]);
    symlink("nowhere", directory.path().join("route-rule-a-2.yaml")).unwrap();
    let mut draft = Draft::read(directory.path()).unwrap();
    draft.create(&input("f", &named("a", "x"))[0]).unwrap();
    let long = "n".repeat(253);
    draft.create(&input("f", &named(&long, "x"))[0]).unwrap();
    assert!(matches!(
        draft.create(&input("f", &named("a", "y"))[0]),
        Err(EditError::Exists { line: 1, .. })
    ));
    draft.write().unwrap();
    assert_eq!(text(&directory, "route-rule-a.yaml"), other);
    assert_eq!(text(&directory, "route-rule-a-3.yaml"), named("a", "x"));
    assert_eq!(
        names(&Draft::read(directory.path()).unwrap()),
        ["a".to_owned(), long]
    );
    let mode = fs::metadata(directory.path().join("route-rule-a-3.yaml")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o600, 0o600);
}

#[test]
fn an_edited_file_keeps_its_mode_and_byte_order_mark() {
    let before = format!(
        "\u{feff}{}---\r\n{}",
        named("a", "x"),
        named("b", "x").replace('\n', "\r\n")
    );
    let directory = directory(&[("r.yaml", &before)]);
    let path = directory.path().join("r.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let mut draft = Draft::read(directory.path()).unwrap();
    draft.replace(&input("f", &named("b", "y"))[0]).unwrap();
    draft.write().unwrap();
    let after = before.replace(
        "name: b\r\nspec: {destination: x}",
        "name: b\r\nspec: {destination: y}",
    );
    assert_eq!(text(&directory, "r.yaml"), after);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn json_stays_json() {
    let json = "{\"type\": \"route-rule\", \"name\": \"a\", \"spec\": {\"destination\": \"x\"}}";
    let directory = directory(&[("r.json", json)]);
    let mut draft = Draft::read(directory.path()).unwrap();
    draft.replace(&input("f", &named("a", "y"))[0]).unwrap();
    draft.write().unwrap();
    let value: serde_json::Value = serde_json::from_str(&text(&directory, "r.json")).unwrap();
    assert_eq!(value["spec"]["destination"], "y");
    draft = Draft::read(directory.path()).unwrap();
    draft.delete(&rule("a")).unwrap();
    draft.write().unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn unnamed_documents_keep_their_names_when_others_go() {
    let bare = |destination| format!("destination: {destination}\n");
    let file = ["a", "b", "c"].map(bare).join("---\n");
    let directory = directory(&[("r.yaml", &file)]);
    let mut draft = Draft::read(directory.path()).unwrap();
    draft.delete(&rule("r-2")).unwrap();
    assert_eq!(names(&draft), ["r-1", "r-3"]);
    draft.delete(&rule("r-1")).unwrap();
    assert_eq!(names(&draft), ["r-3"]);
    assert!(matches!(draft.delete(&rule("r-1")), Err(EditError::Missing(_))));
    draft.delete(&rule("r-3")).unwrap();
    draft.write().unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn objects_whose_fields_are_wrong_can_be_replaced_and_deleted() {
    let broken = "type: route-rule\nname: a\nspec: {destinatoin: x}\n---\ntype: route-rule\nname: b\n";
    let directory = directory(&[("r.yaml", broken)]);
    let mut draft = Draft::read(directory.path()).unwrap();
    draft.replace(&input("f", &named("a", "x"))[0]).unwrap();
    draft.delete(&rule("b")).unwrap();
    assert!(draft.documents().findings.is_empty());
    draft.write().unwrap();
    assert_eq!(text(&directory, "r.yaml"), named("a", "x"));
}

#[test]
fn items_of_lists_are_left_alone() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: config.istio.io/v1alpha2\n  kind: RouteRule\n  \
                metadata: {name: a}\n  spec: {destination: {name: x}}\n";
    let directory = directory(&[("r.yaml", list)]);
    let mut draft = Draft::read(directory.path()).unwrap();
    assert!(matches!(
        draft.delete(&rule("a")),
        Err(EditError::InList { line: 4, .. })
    ));
}

#[test]
fn files_that_others_changed_meanwhile_are_not_written_over() {
    let directory = directory(&[("r.yaml", &named("a", "x"))]);
    let mut draft = Draft::read(directory.path()).unwrap();
    draft.replace(&input("f", &named("a", "y"))[0]).unwrap();
    fs::write(directory.path().join("r.yaml"), "# edited\n").unwrap();
    assert!(matches!(draft.write(), Err(WriteError::Overtaken(_))));
    assert_eq!(text(&directory, "r.yaml"), "# edited\n");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

    let mut draft = Draft::read(directory.path()).unwrap();
    draft.create(&input("f", &named("a", "y"))[0]).unwrap();
    fs::write(directory.path().join("route-rule-a.yaml"), "# new\n").unwrap();
    assert!(matches!(draft.write(), Err(WriteError::Overtaken(_))));
    assert_eq!(text(&directory, "route-rule-a.yaml"), "# new\n");
}

#[test]
fn links_are_not_replaced_by_files() {
    let elsewhere = directory(&[("r.yaml", &named("a", "x"))]);
    let directory = directory(&[]);
    symlink(elsewhere.path().join("r.yaml"), directory.path().join("l.yaml")).unwrap();
    let mut draft = Draft::read(directory.path()).unwrap();
    draft.replace(&input("f", &named("a", "y"))[0]).unwrap();
    assert!(matches!(draft.write(), Err(WriteError::SymbolicLink(_))));
    let mut draft = Draft::read(directory.path()).unwrap();
    draft.delete(&rule("a")).unwrap();
    assert!(matches!(draft.write(), Err(WriteError::SymbolicLink(_))));
    assert_eq!(text(&elsewhere, "r.yaml"), named("a", "x"));
}

#[test]
fn findings_are_about_the_text_that_was_given() {
    let directory = directory(&[("r.yaml", &format!("# head\n\n{}", named("a", "x")))]);
    let mut draft = Draft::read(directory.path()).unwrap();
    let given = "# 1\n---\n# 3\ndestination: x\nroute:\n- weight: 1\n---\ntype: route-rule\nname: a\nspec:\n  \
                 destination: x\n  precedence: 1\n";
    let given = input("g.yaml", given);
    draft.create(&given[0]).unwrap();
    draft.replace(&given[1]).unwrap();
    for (object, field, place) in [
        (
            &given[0],
            "spec.route[0].weight",
            ("g.yaml", 6, "route[0].weight"),
        ),
        (&given[1], "spec.precedence", ("g.yaml", 12, "spec.precedence")),
        (&given[1], "", ("g.yaml", 8, "")),
    ] {
        let there = draft.find(&object.key).unwrap();
        let relative = field.strip_prefix("spec.").unwrap_or(field);
        let found = draft
            .place_in_input(object, &there.position.place(relative))
            .unwrap();
        assert_eq!((&*found.file, found.line, &*found.field), place);
    }
    let there = draft.find(&given[1].key).unwrap().position.place("");
    assert_eq!(draft.place_in_input(&given[0], &there), None);
}

/// Documents of a file: text that must survive, and the name of the rule in it, if any.
fn document() -> impl Strategy<Value = (Option<u8>, String)> {
    let comment = prop::sample::select(vec!["", "# c\n", "# c\n\n", "\n"]);
    let end = prop::sample::select(vec!["", "\n", "# end\n", "# é --- end\n"]);
    (0..6_u8, comment, end, any::<bool>()).prop_map(|(n, comment, end, is_named)| {
        let body = if is_named {
            named(&format!("n{n}"), "x")
        } else {
            format!("destination: d{n}\n")
        };
        (is_named.then_some(n), format!("{comment}{body}{end}"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn editing_one_document_leaves_the_others_byte_for_byte(
        mut documents in prop::collection::vec(document(), 1..8),
        at in any::<prop::sample::Index>(),
        deletes in any::<bool>(),
    ) {
        let mut seen = std::collections::BTreeSet::new();
        documents.retain(|(name, _)| name.is_none() || seen.insert(*name));
        let at = at.index(documents.len());
        let file = documents.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("---\n");
        let directory = directory(&[("r.yaml", &file)]);
        let mut draft = Draft::read(directory.path()).unwrap();
        let before = draft.documents().declared;
        prop_assert_eq!(before.len(), documents.len());
        let key = before[at].key.clone();
        if deletes {
            draft.delete(&key).unwrap();
        } else {
            draft.replace(&input("f", &named(&key.name, "new"))[0]).unwrap();
        }
        draft.write().unwrap();
        let after = Draft::read(directory.path()).unwrap().documents();
        prop_assert!(after.findings.is_empty(), "{:?}", after.findings);
        let expected = before.iter().filter(|d| !(deletes && d.key == key));
        prop_assert_eq!(after.declared.len(), expected.clone().count());
        for old in expected {
            let new = after.declared.iter().find(|d| d.key == old.key);
            let new = new.expect("the others keep their names");
            if old.key == key {
                let spec = new.spec();
                prop_assert_eq!(&spec["destination"], "new");
            } else {
                prop_assert_eq!(&*new.position.source().text(), &*old.position.source().text());
            }
        }
    }
}
