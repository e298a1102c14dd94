//! Directories that change between two looks, against directories that are read afresh.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::config::read_directory;

fn rule(number: u32) -> String {
    format!("type: route-rule\nname: r{number}\nspec:\n  destination: a\n  precedence: {number}\n")
}

fn touched(directory: &Path, name: &str) -> Suspects {
    Suspects::Files([directory.join(name)].into())
}

fn names(directory: &Directory) -> Vec<String> {
    let documents = directory.documents();
    documents
        .route_rules
        .iter()
        .map(|rule| rule.name.to_string())
        .collect()
}

#[test]
fn names_and_contents_count_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
    let mut directory = Directory::new(place.path().to_owned(), LoadLimits::default());
    write("a.yaml", &rule(1));
    let first = directory.look(&Suspects::All);
    assert!(first.is_some());
    write("a.yaml", &rule(1));
    write("notes.txt", "not read");
    write(".hidden.yaml", "not read");
    assert_eq!(directory.look(&Suspects::All), first);
    write("a.yaml", &rule(2));
    let second = directory.look(&touched(place.path(), "a.yaml"));
    assert_ne!(second, first);
    assert_eq!(names(&directory), ["r2"]);
    write("b.yaml", &rule(3));
    assert_ne!(directory.look(&touched(place.path(), "b.yaml")), second);
    assert_eq!(names(&directory), ["r2", "r3"]);
    fs::remove_file(place.path().join("b.yaml")).unwrap();
    assert_eq!(directory.look(&touched(place.path(), "b.yaml")), second);
    write("a.yaml", &rule(1));
    assert_eq!(directory.look(&Suspects::All), first);
    let mut nowhere = Directory::new("/nowhere/at/all".into(), LoadLimits::default());
    assert_eq!(nowhere.look(&Suspects::All), None);
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let place = tempfile::tempdir().unwrap();
    for (number, name) in ["a.yaml", "b.yaml"].into_iter().enumerate() {
        fs::write(place.path().join(name), rule(number as u32)).unwrap();
    }
    let mut directory = Directory::new(place.path().to_owned(), LoadLimits::default());
    directory.look(&Suspects::All);
    let before = directory.documents();
    fs::write(place.path().join("b.yaml"), rule(7)).unwrap();
    directory.look(&Suspects::All);
    let after = directory.documents();
    let same = |part: usize| {
        Arc::ptr_eq(
            &before.route_rules.parts()[part],
            &after.route_rules.parts()[part],
        )
    };
    assert!(same(0) && !same(1));
}

#[test]
fn lines_are_found_after_the_text_was_forgotten() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("a.yaml"), rule(1)).unwrap();
    let mut directory = Directory::new(place.path().to_owned(), LoadLimits::default());
    directory.look(&Suspects::All);
    directory.forget_texts();
    let line = |documents: &Documents| documents.route_rules[0].position.place("precedence").line;
    assert_eq!(line(&directory.documents()), 5);
    // Another text by now: the line of the object will do.
    fs::write(place.path().join("a.yaml"), "something else").unwrap();
    directory.forget_texts();
    let fresh = Directory {
        files: std::mem::take(&mut directory.files),
        ..Directory::new(place.path().to_owned(), LoadLimits::default())
    };
    assert!(line(&fresh.documents()) <= 5);
}

#[test]
fn a_swapped_link_is_noticed_by_whatever_was_touched() {
    let place = tempfile::tempdir().unwrap();
    for (folder, number) in [("one", 1), ("two", 2)] {
        fs::create_dir(place.path().join(folder)).unwrap();
        fs::write(place.path().join(folder).join("a.yaml"), rule(number)).unwrap();
    }
    let link = |to: &str| {
        let _ = fs::remove_file(place.path().join("..data"));
        std::os::unix::fs::symlink(to, place.path().join("..data")).unwrap();
    };
    link("one");
    std::os::unix::fs::symlink("..data/a.yaml", place.path().join("a.yaml")).unwrap();
    let mut directory = Directory::new(place.path().to_owned(), LoadLimits::default());
    directory.look(&Suspects::All);
    assert_eq!(names(&directory), ["r1"]);
    link("two");
    directory.look(&touched(place.path(), "..data"));
    assert_eq!(names(&directory), ["r2"]);
}

/// What is done to a file: removed, or written.
fn edits() -> impl Strategy<Value = Vec<(usize, Option<&'static str>, bool)>> {
    let texts = prop_oneof![
        Just(None),
        Just(Some("destination: a\n")),
        Just(Some(
            "destination: a\nwieght: 1\n---\ndestination: b\nroute:\n- weight: 30\n"
        )),
        Just(Some("a: [\n")),
        Just(Some("")),
        Just(Some(
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n"
        )),
        Just(Some(
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: p}}\n- 1\n"
        )),
        Just(Some("\u{feff}destination: c\n")),
    ];
    proptest::collection::vec((0_usize..4, texts, any::<bool>()), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn reading_again_finds_what_reading_afresh_finds(edits in edits(), files in 1_usize..5, documents in 2_usize..8) {
        let place = tempfile::tempdir().unwrap();
        let limits = LoadLimits { bytes: 150, files, documents };
        let mut directory = Directory::new(place.path().to_owned(), limits);
        for (file, text, told) in edits {
            let path = place.path().join(format!("f{file}.yaml"));
            match text {
                Some(text) => fs::write(&path, text).unwrap(),
                None => drop(fs::remove_file(&path)),
            }
            let suspects = if told { Suspects::Files([path].into()) } else { Suspects::All };
            directory.look(&suspects);
            let again = directory.documents();
            let afresh = read_directory(place.path(), &limits);
            prop_assert_eq!(&again.findings, &afresh.findings);
            prop_assert_eq!(again.len(), afresh.len());
            let keys = |documents: &Documents| documents.declared.iter().map(|d| d.key.clone()).collect::<Vec<_>>();
            prop_assert_eq!(keys(&again), keys(&afresh));
        }
    }
}
