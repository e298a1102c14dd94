//! The verbs of the 0.1 command line, on a configuration directory: what `create`, `replace`, `get`, `delete` and `diff`
//! share. Each verb has its file.
//!
//! A verb that changes something drafts the change, compiles the whole resulting configuration, and writes only what
//! compiles. It does not know how text is edited.

pub(super) mod apply;
pub(super) mod delete;
pub(super) mod diff;
pub(super) mod get;

mod effect;
mod fields;
mod kind;

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;

use super::{
    USAGE,
    output::{self, Palette},
    text::{hinted, print_error},
};
use crate::{
    compile::{self, Compiled},
    config::{
        self, Declared, Documents, LoadLimits, ObjectKey,
        edit::{Draft, EditError, Lock},
        rules_v1alpha1::RuleKind,
    },
    finding::Finding,
};

/// The directory that a verb works on.
#[derive(clap::Args, Debug)]
pub(super) struct Directory {
    /// Configuration directory.
    #[arg(long = "config", env = "ROUTER_CONFIG", value_name = "DIR")]
    directory: PathBuf,
}

/// What a verb reads objects from.
#[derive(clap::Args, Debug)]
pub(super) struct Input {
    /// File of rules and policies, perhaps many; - for standard input, which is read when no file is given.
    #[arg(short, long = "file", value_name = "FILE")]
    file: Vec<PathBuf>,
}

/// Why a verb did not do what it was asked to.
#[derive(Debug)]
enum Refusal {
    /// The arguments make no sense.
    Usage(anyhow::Error),
    /// The configuration, or the input, has errors.
    Findings(Vec<Finding>),
    /// Anything else.
    Other(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Prints what went wrong and says how the program ends.
fn finish(result: Result<(), Refusal>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refusal::Usage(error)) => {
            print_error(&error);
            ExitCode::from(USAGE)
        }
        Err(Refusal::Other(error)) => {
            print_error(&error);
            ExitCode::FAILURE
        }
        Err(Refusal::Findings(findings)) => {
            print_findings(&findings);
            let tally = output::tally(&findings);
            print_error(&anyhow::anyhow!("refused, {tally}; nothing was changed"));
            ExitCode::FAILURE
        }
    }
}

fn print_findings(findings: &[Finding]) {
    for finding in findings {
        eprintln!("{}", output::finding(finding, Palette::for_stderr()));
    }
}

/// A kind that a person typed.
fn kind(word: &str) -> Result<RuleKind, Refusal> {
    kind::parse(word).map_err(|error| Refusal::Usage(error.into()))
}

impl Directory {
    fn path(&self) -> &Path {
        &self.directory
    }

    /// Locks and reads the directory for a change.
    fn draft(&self) -> Result<(Lock, Draft), Refusal> {
        let directory = self.path();
        let lock = Lock::take(directory, || {
            eprintln!(
                "waiting for another router command that changes {}",
                directory.display()
            );
        });
        let lock = lock.with_context(|| format!("cannot lock {}", directory.display()))?;
        Ok((lock, self.read()?))
    }

    /// Reads the directory.
    fn read(&self) -> Result<Draft, Refusal> {
        let directory = self.path();
        if !directory.is_dir() {
            let error = anyhow::anyhow!("{} is no directory", directory.display());
            return Err(hinted(error, "--config or ROUTER_CONFIG name a configuration directory").into());
        }
        Draft::read(directory).map_err(Refusal::Findings)
    }
}

impl Input {
    /// Reads the objects; those that name no namespace are in `namespace`. `verb` is what is done with them, for
    /// messages.
    fn read(&self, verb: &str, namespace: &str) -> Result<Vec<Declared>, Refusal> {
        let standard_input = [PathBuf::from("-")];
        let files: &[_] = if self.file.is_empty() {
            if io::stdin().is_terminal() {
                eprintln!("reading standard input; -f FILE reads a file");
            }
            &standard_input
        } else {
            &self.file
        };
        let documents = config::read(files, &LoadLimits::default());
        if documents.findings.iter().any(Finding::is_error) {
            return Err(Refusal::Findings(documents.findings));
        }
        if let Some((object, position)) = other_object(&documents) {
            let object = object.as_deref().unwrap_or("an object");
            let error = anyhow::anyhow!(
                "{object} at {}:{} is neither a rule nor a policy",
                position.file(),
                position.line()
            );
            let hint = "put files of Services, EndpointSlices and Pods into the directory as they are";
            return Err(Refusal::Other(hinted(error, hint)));
        }
        if documents.declared.is_empty() {
            return Err(Refusal::Other(anyhow::anyhow!("nothing to {verb}")));
        }
        if let Some(object) = documents.declared.iter().find(|object| has_no_name(object)) {
            let error = anyhow::anyhow!(
                "the rule at {}:{} has no name",
                object.position.file(),
                object.position.line()
            );
            let hint = "put it below `spec:`, beside `type:` and `name:`; only a file names what it holds";
            return Err(Refusal::Other(hinted(error, hint)));
        }
        let objects: Vec<_> = documents
            .declared
            .iter()
            .cloned()
            .map(|object| object.in_namespace(namespace))
            .collect();
        let mut seen = BTreeSet::new();
        for object in &objects {
            if !seen.insert(&object.key) {
                return Err(Refusal::Other(anyhow::anyhow!(
                    "{} is there twice, the second time at {}:{}",
                    object.key,
                    object.position.file(),
                    object.position.line()
                )));
            }
        }
        Ok(objects)
    }
}

/// True for what was written without a name and comes from no file that would name it.
fn has_no_name(object: &Declared) -> bool {
    object.position.is_bare_rule() && &**object.position.file() == config::STANDARD_INPUT
}

/// What something is called that is neither a rule nor a policy, and its place.
fn other_object(documents: &Documents) -> Option<(Option<Arc<str>>, &config::Position)> {
    fn first<T: config::Kind>(
        documents: &config::Many<config::Document<T>>,
    ) -> Option<(Option<Arc<str>>, &config::Position)> {
        let document = documents.iter().next()?;
        Some((document.object(), &document.position))
    }
    first(&documents.services)
        .or_else(|| first(&documents.endpoint_slices))
        .or_else(|| first(&documents.pods))
}

/// A change that compiles.
struct Judged {
    /// The configuration before; none when it had errors.
    before: Option<Compiled>,
    after: Compiled,
    /// Warnings that are there because of the change.
    warnings: Vec<Finding>,
}

/// Compiles what a draft would be. Findings about `inputs` speak of the places that these came from.
fn judge(before: &Documents, draft: &Draft, inputs: &[Declared]) -> Result<Judged, Refusal> {
    let before = compile::compile(before).ok();
    let at_input = |finding: Finding| {
        let place = inputs
            .iter()
            .find_map(|input| draft.place_in_input(input, &finding.place));
        Finding {
            place: place.unwrap_or_else(|| finding.place.clone()),
            ..finding
        }
    };
    // Lines move when a file changes, so a place does not make a warning new.
    let known: BTreeSet<_> = before
        .iter()
        .flat_map(|compiled| &compiled.findings)
        .map(|f| (f.code, f.object.clone(), f.message.clone()))
        .collect();
    let is_new = |f: &Finding| !known.contains(&(f.code, f.object.clone(), f.message.clone()));
    let news = |all: Vec<Finding>| all.into_iter().filter(is_new).map(at_input).collect::<Vec<_>>();
    let mut after = compile::compile(&draft.documents()).map_err(|all| Refusal::Findings(news(all)))?;
    let warnings = news(std::mem::take(&mut after.findings));
    Ok(Judged {
        before,
        after,
        warnings,
    })
}

/// An edit that cannot be made, with what to do about it.
fn edit_refused(error: EditError, directory: &Path) -> Refusal {
    let hint = match &error {
        EditError::Exists { .. } => "`router replace` changes what exists".to_owned(),
        EditError::Missing(ObjectKey { kind, .. }) => format!(
            "`router get {} --config {}` lists what there is",
            kind.name(),
            directory.display()
        ),
        EditError::InList { .. } => "edit that file, or write its items as documents of their own".to_owned(),
        EditError::Text(..) => return Refusal::Other(error.into()),
    };
    Refusal::Other(hinted(error, hint))
}
