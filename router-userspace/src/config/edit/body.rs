//! An object → the text of a document that holds it alone, under its own name.
//!
//! It keeps what its author wrote, comments included, wherever that is possible.

use super::splice::Parts;
use crate::config::{Declared, ObjectKey, object::DEFAULT_NAMESPACE, yaml};

/// Lines that an object which was written without a name gets before its own.
pub(super) const ENVELOPE_LINES: u32 = 3;

/// The object's text as YAML, with the comments that speak of it, without a document marker.
pub(super) fn yaml_text(object: &Declared) -> std::io::Result<String> {
    let position = &object.position;
    if position.item().is_none() {
        let text = position.source().text();
        let parts = Parts::of(&text);
        let content = parts.content.trim_end();
        if position.in_spec && !object.is_moved() {
            return Ok(format!("{}{content}\n", parts.comment));
        }
        if position.in_spec {
            let spec = yaml::to_yaml(&object.spec())?;
            return Ok(format!(
                "{}{}{}",
                parts.comment,
                head(&object.key)?,
                indented(spec.trim_end())
            ));
        }
        let wrapped = format!("{}{}{}", parts.comment, head(&object.key)?, indented(content));
        // Text that cannot stand deeper, such as that of a multi-line string with its own indentation, is rewritten.
        let spec = yaml::parse(&wrapped, 1).ok().and_then(|mut tree| {
            let spec = tree.get_mut("spec")?;
            Some(spec.take())
        });
        if spec == Some(object.spec()) {
            return Ok(wrapped);
        }
    }
    let spec = yaml::to_yaml(&object.spec())?;
    Ok(head(&object.key)? + &indented(spec.trim_end()))
}

/// The object's text as JSON.
pub(super) fn json_text(object: &Declared) -> std::io::Result<String> {
    let ObjectKey {
        kind,
        namespace,
        name,
    } = &object.key;
    let mut envelope = serde_json::json!({"type": kind.name(), "name": name, "spec": object.spec()});
    if &**namespace != DEFAULT_NAMESPACE {
        envelope["namespace"] = (&**namespace).into();
    }
    Ok(serde_json::to_string_pretty(&envelope)? + "\n")
}

/// The lines of an envelope down to `spec:`.
fn head(key: &ObjectKey) -> std::io::Result<String> {
    // Through the writer, which quotes what would otherwise be read as a number or truth value.
    let name = yaml::to_yaml(&key.name)?;
    let namespace = match &*key.namespace {
        DEFAULT_NAMESPACE => String::new(),
        namespace => format!("namespace: {}", yaml::to_yaml(&namespace)?),
    };
    Ok(format!(
        "type: {}\nname: {name}{namespace}spec:\n",
        key.kind.name()
    ))
}

fn indented(text: &str) -> String {
    let line = |line: &str| {
        if line.trim().is_empty() {
            line.to_owned() + "\n"
        } else {
            format!("  {line}\n")
        }
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::Documents;

    fn text(file: &str, text: &str) -> String {
        let mut documents = Documents::default();
        documents.add_text(file, text);
        assert!(documents.findings.is_empty(), "{:?}", documents.findings);
        super::yaml_text(&documents.declared[0]).unwrap()
    }

    #[test]
    fn named_documents_stay_as_they_are_written() {
        let document = "# about it\ntype: route-rule\nname: a\nspec: {destination: b} # so\n";
        assert_eq!(
            text("f.yaml", &format!("# the file\n\n{document}\n\n---\n")),
            document
        );
        assert_eq!(text("f.yaml", &format!("---\n{document}")), document);
    }

    #[test]
    fn bare_documents_get_their_name_and_keep_their_comments() {
        assert_eq!(
            text(
                "1.yaml",
                "# a\ndestination: b # c\n\nroute:\n- tags: {v: \"1\"}\n"
            ),
            "# a\ntype: route-rule\nname: 1-1\nspec:\n  destination: b # c\n\n  route:\n  - tags: {v: \"1\"}\n"
        );
        let quoted = text("1e.yaml", "{\"destination\": \"b\",\n\"precedence\": 1}");
        assert_eq!(
            quoted,
            "type: route-rule\nname: '1e-1'\nspec:\n  {\"destination\": \"b\",\n  \"precedence\": 1}\n"
        );
    }

    #[test]
    fn items_of_lists_become_documents() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: config.istio.io/v1alpha2\n  kind: RouteRule\n  \
                    metadata: {name: \"123\", namespace: prod}\n  spec: {destination: {name: b}}\n";
        assert_eq!(
            text("f.yaml", list),
            "type: route-rule\nname: '123'\nnamespace: prod\nspec:\n  destination:\n    name: b\n"
        );
    }
}
