//! How routes differ, for people.

use std::fmt::Write as _;

use super::{Attribute, Effect, Fate, PortEffect, RuleEffect, TargetEffect, Versions};
use crate::cli::text::Paint;

impl Effect {
    /// One block per port: its rules in order with a sign for what becomes of them, and below those that differ what
    /// differs.
    pub(in crate::cli::objects) fn render(&self, paint: Paint) -> String {
        if self.ports.is_empty() {
            return "no route differs\n".to_owned();
        }
        let blocks: Vec<_> = self.ports.iter().map(|effect| port(effect, paint)).collect();
        blocks.join("\n")
    }
}

fn port(effect: &PortEffect, paint: Paint) -> String {
    let routed_by = arrow(&effect.routed_by, paint);
    let title = paint.strong(&format!("{}:{}", effect.service, effect.port));
    let mut text = format!("{title}  routed by: {routed_by}\n");
    for effect in &effect.rules {
        rule(&mut text, effect, paint);
    }
    if let Some(target) = &effect.unmatched {
        let detail = if target.fate == Fate::Same {
            String::new()
        } else {
            format!("  {}", attributes(target, paint))
        };
        line(
            &mut text,
            target.fate,
            &format!("{}{detail}", target.instances),
            paint,
        );
    }
    text
}

fn rule(text: &mut String, effect: &RuleEffect, paint: Paint) {
    line(text, effect.fate, &effect.rule, paint);
    if effect.fate == Fate::Same {
        return;
    }
    let shown = |attribute: &&Attribute| effect.fate != Fate::Changed || attribute.differs();
    for Attribute { name, versions } in effect.actions.iter().filter(shown) {
        // Writing into a String cannot fail.
        let value = if effect.fate == Fate::Changed {
            arrow(versions, paint)
        } else {
            only(versions).to_owned()
        };
        let _ = writeln!(text, "        {name:<12}{value}");
    }
    let width = effect
        .targets
        .iter()
        .map(|t| t.instances.len())
        .max()
        .unwrap_or(0);
    for target in &effect.targets {
        let sign = if effect.fate == Fate::Changed {
            sign(target.fate)
        } else {
            ' '
        };
        let _ = writeln!(
            text,
            "      {sign} {:<width$}  {}",
            target.instances,
            attributes(target, paint)
        );
    }
}

/// The values of a target, those that differ with an arrow.
fn attributes(target: &TargetEffect, paint: Paint) -> String {
    let values = target.attributes.iter().map(|a| match target.fate {
        // That it is new or goes is said by the sign.
        Fate::Added | Fate::Removed => only(&a.versions).to_owned(),
        Fate::Changed | Fate::Same => arrow(&a.versions, paint),
    });
    values.collect::<Vec<_>>().join("  ")
}

fn only(versions: &Versions) -> &str {
    let Versions { before, after } = versions;
    after.as_deref().or(before.as_deref()).unwrap_or_default()
}

/// `75 % → 50 %`; a value that is not there is a dash.
fn arrow(versions: &Versions, paint: Paint) -> String {
    match (versions.before.as_deref(), versions.after.as_deref()) {
        (before, after) if before == after => only(versions).to_owned(),
        (before, after) => format!(
            "{} → {}",
            paint.removed(before.unwrap_or("-")),
            paint.good(after.unwrap_or("-"))
        ),
    }
}

const fn sign(fate: Fate) -> char {
    match fate {
        Fate::Added => '+',
        Fate::Removed => '-',
        Fate::Changed => '~',
        Fate::Same => ' ',
    }
}

/// A line with the sign and colour of what becomes of its subject.
fn line(text: &mut String, fate: Fate, subject: &str, paint: Paint) {
    let line = format!("  {} {subject}", sign(fate));
    text.push_str(&match fate {
        Fate::Added => paint.good(&line),
        Fate::Removed => paint.removed(&line),
        Fate::Changed => paint.odd(&line),
        Fate::Same => paint.faint(&line),
    });
    text.push('\n');
}
