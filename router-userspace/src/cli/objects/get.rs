//! `router get`: what the configuration directory holds, as the 0.1 tool printed it.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::{Directory, Refusal, finish, kind};
use crate::{
    cli::text::{hinted, print},
    config::{self, DEFAULT_NAMESPACE, Declared},
    finding::Finding,
};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  router get route-rules                              their names
  router get route-rule reviews-default               its specification
  router get route-rules -o yaml                      all of them, as `router replace` takes them
  router get destination-policies -o json")]
pub(in crate::cli) struct Args {
    /// Kind of the objects: route-rule, destination-policy, ingress-rule, egress-rule.
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    /// Name of one object, of which the specification is printed.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// How to print; a single object is never short.
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    /// Namespace of the objects.
    #[arg(short, long, default_value = DEFAULT_NAMESPACE, value_name = "NAMESPACE")]
    namespace: String,
    #[command(flatten)]
    directory: Directory,
}

/// How objects are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum Form {
    /// One name per line.
    #[default]
    Short,
    /// Documents.
    Yaml,
    /// A list.
    Json,
}

pub(in crate::cli) fn run(args: &Args) -> ExitCode {
    finish(get(args))
}

fn get(args: &Args) -> Result<(), Refusal> {
    let Some(kind) = &args.kind else {
        let message = format!("specify the type of resource to get. Types are {}", kind::KINDS);
        return Err(Refusal::Usage(anyhow!(message)));
    };
    let kind = super::kind(kind)?;
    let documents = args.directory.read()?.documents();
    let mut objects: Vec<_> = documents.declared.iter().cloned().collect();
    objects.retain(|object| object.key.kind == kind && *object.key.namespace == *args.namespace);
    if let Some(name) = &args.name {
        let Some(object) = objects.iter().find(|object| *object.key.name == **name) else {
            let message = format!(
                "there is no {} {name} in namespace {}",
                kind.name(),
                args.namespace
            );
            return Err(Refusal::Other(anyhow!(message)));
        };
        let spec = object.spec();
        print(&match args.output {
            Form::Json => serde_json::to_string_pretty(&spec)? + "\n",
            Form::Short | Form::Yaml => config::to_yaml(&spec)?,
        })?;
    } else if objects.is_empty() && args.output != Form::Json {
        eprintln!("No resources found.");
    } else {
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        print(&list(&objects, args.output)?)?;
    }
    warn_of_errors(args, &documents.findings);
    Ok(())
}

fn list(objects: &[Declared], form: Form) -> anyhow::Result<String> {
    Ok(match form {
        Form::Short => objects
            .iter()
            .map(|object| format!("{}\n", object.key.name))
            .collect(),
        Form::Yaml => objects.iter().map(document).collect::<anyhow::Result<_>>()?,
        Form::Json => {
            let objects: Vec<Value> = objects.iter().map(envelope).collect();
            serde_json::to_string_pretty(&objects)? + "\n"
        }
    })
}

fn envelope(object: &Declared) -> Value {
    let key = &object.key;
    json!({
        "type": key.kind.name(),
        "name": &*key.name,
        "namespace": &*key.namespace,
        "spec": object.spec(),
    })
}

/// `type`, `name`, `namespace`, the indented `spec`, and the marker of the next document.
fn document(object: &Declared) -> anyhow::Result<String> {
    let key = &object.key;
    let mut text = format!("type: {}\n", key.kind.name());
    for (field, value) in [("name", &key.name), ("namespace", &key.namespace)] {
        text.push_str(&format!("{field}: {}", config::to_yaml(value)?));
    }
    text.push_str("spec:\n");
    for line in config::to_yaml(&object.spec())?.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    Ok(text + "---\n")
}

/// What is printed may lack what could not be read.
fn warn_of_errors(args: &Args, findings: &[Finding]) {
    let errors = findings.iter().filter(|f| f.is_error()).count();
    if errors > 0 {
        let directory = args.directory.path().display();
        let error = anyhow!(
            "the configuration has {}",
            crate::cli::output::counted(errors, "error")
        );
        crate::cli::text::print_error(&hinted(error, format!("`router check {directory}` lists them")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Documents;

    fn objects(text: &str) -> Vec<Declared> {
        let mut documents = Documents::default();
        documents.add_text("r.yaml", text);
        assert!(documents.findings.is_empty(), "{:?}", documents.findings);
        documents.declared.iter().cloned().collect()
    }

    #[test]
    fn lists_are_as_the_old_tool_printed_them() {
        let objects = objects(
            "destination: b\n---\n{type: route-rule, name: '1', spec: {precedence: 2, destination: c}}",
        );
        assert_eq!(list(&objects, Form::Short).unwrap(), "r-1\n1\n");
        assert_eq!(
            list(&objects, Form::Yaml).unwrap(),
            "type: route-rule\nname: r-1\nnamespace: default\nspec:\n  destination: b\n---\ntype: route-rule\nname: \
             '1'\nnamespace: default\nspec:\n  destination: c\n  precedence: 2\n---\n"
        );
        let json: Value = serde_json::from_str(&list(&objects, Form::Json).unwrap()).unwrap();
        assert_eq!(json[1]["name"], "1");
        assert_eq!(json[1]["spec"]["precedence"], 2);
    }

    #[test]
    fn what_is_printed_can_be_read_back() {
        let rules = "destination: b\nmatch: {httpHeaders: {uri: {prefix: '/a: b'}}}\n---\napiVersion: \
                     config.istio.io/v1alpha2\nkind: RouteRule\nmetadata: {name: '1', namespace: prod}\nspec: \
                     {precedence: 2, destination: {name: c}}\n";
        let before = objects(rules);
        let after = objects(&list(&before, Form::Yaml).unwrap());
        let seen = |objects: &[Declared]| {
            let both = objects.iter().map(|o| (o.key.clone(), o.spec()));
            both.collect::<Vec<_>>()
        };
        assert_eq!(seen(&before), seen(&after));
        assert_eq!(&*after[1].key.namespace, "prod");
    }
}
