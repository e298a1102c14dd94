//! `router delete`: objects leave the configuration directory.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::anyhow;

use super::{Directory, Input, Refusal, apply::print_effect, edit_refused, finish, judge};
use crate::{
    cli::text::print,
    config::{DEFAULT_NAMESPACE, ObjectKey},
};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  router delete route-rule reviews-default reviews-testers
  router delete -f rules.yaml
  cat rules.yaml | router delete -f -

All of them or none: nothing is deleted when one is missing, or when what remains has errors.")]
pub(in crate::cli) struct Args {
    /// Kind of the objects: route-rule, destination-policy, ingress-rule, egress-rule.
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    /// Their names.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// File that holds the objects to delete, of which only the names count; - for standard input.
    #[arg(short, long = "file", value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Namespace of the objects named by argument, and of those whose text names none.
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, value_name = "NAMESPACE")]
    namespace: String,
    #[command(flatten)]
    directory: Directory,
}

pub(in crate::cli) fn run(args: Args) -> ExitCode {
    finish(delete(args))
}

fn delete(args: Args) -> Result<(), Refusal> {
    let directory = &args.directory;
    let keys = match (&args.kind, args.file.is_empty()) {
        (Some(_), false) => {
            let message = "delete takes no arguments when the file option is used";
            return Err(Refusal::Usage(anyhow!(message)));
        }
        (Some(kind), true) if !args.names.is_empty() => named(kind, &args.namespace, &args.names)?,
        (_, true) => {
            let message = "provide configuration type and name or -f option";
            return Err(Refusal::Usage(anyhow!(message)));
        }
        (None, false) => {
            let objects = Input { file: args.file }.read("delete", &args.namespace)?;
            objects.into_iter().map(|object| object.key).collect()
        }
    };
    let (_lock, mut draft) = directory.draft()?;
    let before = draft.documents();
    let mut missing = Vec::new();
    for key in &keys {
        match draft.find(key) {
            Some(_) => draft
                .delete(key)
                .map_err(|error| edit_refused(error, directory.path()))?,
            None => missing.push(key.to_string()),
        }
    }
    if !missing.is_empty() {
        let message = format!("there is no {}; nothing was deleted", missing.join(", no "));
        return Err(Refusal::Other(anyhow!(message)));
    }
    let judged = judge(&before, &draft, &[])?;
    draft.write()?;
    let lines: String = keys
        .iter()
        .map(|key| format!("Deleted config: {key}\n"))
        .collect();
    print(&lines)?;
    print_effect(judged)
}

/// Keys of the objects that the arguments name, each once.
fn named(kind: &str, namespace: &str, names: &[String]) -> Result<Vec<ObjectKey>, Refusal> {
    let kind = super::kind(kind)?;
    let namespace: Arc<str> = namespace.into();
    let mut keys = Vec::new();
    for name in names {
        let key = ObjectKey {
            kind,
            namespace: namespace.clone(),
            name: name.as_str().into(),
        };
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}
