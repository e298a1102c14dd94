//! `router dump`: what the kernel holds, or the compiled configuration, as the agent has it.

use clap::ValueEnum;
use serde_json::Value;

use super::{
    client::Admin,
    text::{Format, Paint, Table, print},
};
use crate::admin::dump::{MapDump, SnapshotDump};

#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  router dump                       every map of the kernel half
  router dump -o json | jq '.[] | select(.map == \"SERVICES\")'
  router dump snapshot -o yaml      the compiled configuration")]
pub(super) struct Args {
    /// What to print.
    #[arg(value_enum, default_value_t)]
    what: What,
    #[command(flatten)]
    admin: Admin,
    /// How to print it; text is a table per map, and YAML for the snapshot.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
enum What {
    /// The maps that the programs in the kernel read.
    #[default]
    Maps,
    /// The compiled configuration.
    Snapshot,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    match args.what {
        What::Snapshot => {
            let snapshot: SnapshotDump = args.admin.get("/snapshot", &[])?;
            let format = if args.output == Format::Text {
                Format::Yaml
            } else {
                args.output
            };
            format.write(&snapshot)?;
        }
        What::Maps => {
            let maps: Vec<MapDump> = args.admin.get("/maps", &[])?;
            if !args.output.write(&maps)? {
                print(
                    &maps
                        .iter()
                        .map(|map| render(map, Paint::stdout()))
                        .collect::<String>(),
                )?;
            }
        }
    }
    Ok(())
}

fn render(map: &MapDump, paint: Paint) -> String {
    let mut table = Table::new(["KEY", "VALUE"]);
    for (key, fields) in &map.entries {
        let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", shown(value)))
            .collect();
        table.row([key.clone(), fields.join(" ")]);
    }
    let title = format!("{}  {} of {}\n", map.map, map.entries.len(), map.capacity);
    let body = if map.entries.is_empty() {
        String::new()
    } else {
        table.plain(paint)
    };
    format!("{}{body}\n", paint.strong(&title))
}
