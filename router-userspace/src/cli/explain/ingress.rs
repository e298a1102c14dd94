//! How a request from outside comes in, for people.

use std::fmt::Write as _;

use super::table;
use crate::{
    admin::dump::{Explanation, IngressSide},
    cli::text::Paint,
};

pub(super) fn render(text: &mut String, side: &IngressSide, answer: &Explanation, paint: Paint) {
    let generation = answer.generation;
    let _ = writeln!(
        text,
        "port {} of the node ({}), generation {generation}",
        side.port, side.scheme
    );
    if let Some(certificate) = &side.certificate {
        let names = certificate.names.join(", ");
        let _ = writeln!(
            text,
            "clients are shown {} for {names}, valid until {}",
            certificate.secret, certificate.until
        );
    }
    text.push('\n');
    table(text, &side.rules, paint);
    text.push('\n');
    let rule = side.rule.as_deref().unwrap_or("no rule of the port matches");
    let _ = writeln!(text, "{}", paint.strong(&format!("→ {rule}")));
    match &answer.decision.refusal {
        Some(refusal) if answer.rules.is_empty() && answer.decision.targets.is_empty() => {
            let _ = writeln!(text, "  {}", paint.bad(&format!("refused: {refusal}")));
        }
        _ => text.push('\n'),
    }
}
