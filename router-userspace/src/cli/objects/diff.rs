//! `router diff`: what `create` or `replace` of a file would change.

use std::{fmt::Write as _, process::ExitCode};

use serde::Serialize;
use serde_json::Value;

use super::{
    Directory, Input, Refusal, edit_refused,
    effect::{self, Effect},
    fields::{FieldChange, differences},
    finish, judge, print_findings,
};
use crate::{
    cli::text::{Format, Paint, print},
    config::{DEFAULT_NAMESPACE, Declared, edit::Draft},
};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  router diff -f canary.yaml --config /etc/router
  cat canary.yaml | router diff

Nothing is changed. Exit status: 0 when the file could be applied, whether or not it changes anything, 1 when it would be
refused.")]
pub(in crate::cli) struct Args {
    /// Namespace of the objects whose text names none.
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, value_name = "NAMESPACE")]
    namespace: String,
    #[command(flatten)]
    directory: Directory,
    #[command(flatten)]
    input: Input,
    /// How to print the differences.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What would change.
#[derive(Debug, Serialize)]
struct Difference {
    objects: Vec<ObjectChange>,
    /// None when the configuration has errors now, so that there are no routes to compare with.
    #[serde(flatten)]
    effect: Option<Effect>,
}

/// What would become of an object.
#[derive(Debug, Serialize)]
struct ObjectChange {
    /// Kind and name.
    object: String,
    /// File and line at which it is or would be.
    place: String,
    /// True when it would be new.
    added: bool,
    /// Fields that differ.
    fields: Vec<FieldChange>,
}

pub(in crate::cli) fn run(args: &Args) -> ExitCode {
    finish(diff(args))
}

fn diff(args: &Args) -> Result<(), Refusal> {
    let inputs = args.input.read("compare", &args.namespace)?;
    let mut draft = args.directory.read()?;
    let before = draft.documents();
    let mut objects = Vec::new();
    for input in &inputs {
        let change = apply(&mut draft, input);
        objects.push(change.map_err(|error| edit_refused(error, args.directory.path()))?);
    }
    let judged = judge(&before, &draft, &inputs)?;
    let after = judged.after;
    let difference = Difference {
        objects,
        effect: judged
            .before
            .map(|before| effect::between(before.model, after.model)),
    };
    if !args.output.write(&difference)? {
        print(&render(&difference, Paint::stdout()))?;
    }
    print_findings(&judged.warnings);
    Ok(())
}

/// Creates or replaces the object in the draft.
fn apply(draft: &mut Draft, input: &Declared) -> Result<ObjectChange, crate::config::edit::EditError> {
    let old = draft.find(&input.key).map(Declared::spec);
    let fields = match &old {
        Some(old) => {
            draft.replace(input)?;
            differences(old, &input.spec())
        }
        None => {
            draft.create(input)?;
            Vec::new()
        }
    };
    let place = draft
        .find(&input.key)
        .map(|there| format!("{}:{}", there.position.file(), there.position.line()));
    Ok(ObjectChange {
        object: input.key.to_string(),
        place: place.unwrap_or_default(),
        added: old.is_none(),
        fields,
    })
}

fn render(difference: &Difference, paint: Paint) -> String {
    let mut text = String::new();
    for change in &difference.objects {
        object(&mut text, change, paint);
    }
    text.push('\n');
    match &difference.effect {
        Some(effect) => text.push_str(&effect.render(paint)),
        None => text.push_str("the configuration has errors now, so there are no routes to compare with\n"),
    }
    text
}

fn object(text: &mut String, change: &ObjectChange, paint: Paint) {
    let place = paint.faint(&change.place);
    let name = &change.object;
    let head = match (change.added, change.fields.is_empty()) {
        (true, _) => paint.good(&format!("+ {name}")),
        (false, false) => paint.odd(&format!("~ {name}")),
        (false, true) => format!("  {name} stays as it is"),
    };
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{head}  {place}");
    let value = |value: &Option<Value>| value.as_ref().map_or_else(|| "-".to_owned(), Value::to_string);
    for FieldChange { field, before, after } in &change.fields {
        let _ = writeln!(
            text,
            "    {field}: {} → {}",
            paint.removed(&value(before)),
            paint.good(&value(after))
        );
    }
}
