//! Two specifications → the fields in which they differ. It knows no names of fields.

use serde_json::Value;

/// A field that differs.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub(super) struct FieldChange {
    /// Its path: `route[0].weight`.
    pub(super) field: String,
    /// Its value before; none: it was not there.
    pub(super) before: Option<Value>,
    /// Its value after; none: it is not there.
    pub(super) after: Option<Value>,
}

/// Every field that is in one of the two only, or has another value, in the order of the paths.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    descend(String::new(), Some(before), Some(after), &mut found);
    found
}

fn descend(field: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<FieldChange>) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let dot = if field.is_empty() { "" } else { "." };
                descend(
                    format!("{field}{dot}{key}"),
                    before.get(key),
                    after.get(key),
                    found,
                );
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for index in 0..before.len().max(after.len()) {
                descend(
                    format!("{field}[{index}]"),
                    before.get(index),
                    after.get(index),
                    found,
                );
            }
        }
        _ => found.push(FieldChange {
            field,
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_have_paths() {
        let before = json!({"a": 1, "b": {"c": [1, 2]}, "d": {"e": 1}});
        let after = json!({"a": 1, "b": {"c": [1, 3, 4]}, "f": {"e": 1}});
        let seen: Vec<_> = differences(&before, &after)
            .into_iter()
            .map(|d| (d.field, d.before, d.after))
            .collect();
        assert_eq!(
            seen,
            [
                ("b.c[1]".to_owned(), Some(json!(2)), Some(json!(3))),
                ("b.c[2]".to_owned(), None, Some(json!(4))),
                ("d".to_owned(), Some(json!({"e": 1})), None),
                ("f".to_owned(), None, Some(json!({"e": 1}))),
            ]
        );
        assert!(differences(&before, &before).is_empty());
    }
}
