//! `router create` and `router replace`: objects go into the configuration directory.

use std::process::ExitCode;

use super::{Directory, Input, Judged, Refusal, edit_refused, effect, finish, judge, print_findings};
use crate::{
    cli::text::{Paint, print},
    config::{
        DEFAULT_NAMESPACE, Declared,
        edit::{Draft, EditError},
    },
};

/// What becomes of the objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cli) enum Verb {
    /// They must not be there.
    Create,
    /// They must be there.
    Replace,
}

#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Args {
    /// Namespace of the objects whose text names none.
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, value_name = "NAMESPACE")]
    namespace: String,
    #[command(flatten)]
    directory: Directory,
    #[command(flatten)]
    input: Input,
}

pub(in crate::cli) fn run(args: &Args, verb: Verb) -> ExitCode {
    finish(apply(args, verb))
}

fn apply(args: &Args, verb: Verb) -> Result<(), Refusal> {
    // Before the lock: standard input may be a person.
    let objects = args.input.read(verb.name(), &args.namespace)?;
    let (_lock, mut draft) = args.directory.draft()?;
    let before = draft.documents();
    for object in &objects {
        verb.edit(&mut draft, object)
            .map_err(|error| edit_refused(error, args.directory.path()))?;
    }
    let judged = judge(&before, &draft, &objects)?;
    draft.write()?;
    print(&report(&objects, verb, &draft, Paint::stdout()))?;
    print_effect(judged)
}

impl Verb {
    const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Replace => "replace",
        }
    }

    fn edit(self, draft: &mut Draft, object: &Declared) -> Result<(), EditError> {
        match self {
            Self::Create => draft.create(object),
            Self::Replace => draft.replace(object),
        }
    }
}

/// One line per object as the 0.1 tool wrote it, and where the object is now.
fn report(objects: &[Declared], verb: Verb, draft: &Draft, paint: Paint) -> String {
    let done = match verb {
        Verb::Create => "Created",
        Verb::Replace => "Updated",
    };
    let line = |object: &Declared| {
        let place = draft.find(&object.key).map(|there| {
            let place = format!("  in {}:{}\n", there.position.file(), there.position.line());
            paint.faint(&place)
        });
        format!("{done} config: {}\n{}", object.key, place.unwrap_or_default())
    };
    objects.iter().map(line).collect()
}

/// Prints what a change that was made does to routes, and what it is warned of.
pub(super) fn print_effect(judged: Judged) -> Result<(), Refusal> {
    print_findings(&judged.warnings);
    if let Some(before) = judged.before {
        let effect = effect::between(before.model, judged.after.model);
        print(&effect.render(Paint::stdout()))?;
    }
    Ok(())
}
