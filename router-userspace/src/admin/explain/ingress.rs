//! Answers where a request from outside goes that comes in at a port of the node.

use router_rules::{
    Snapshot,
    connection::Connection,
    explain::entrance_steps,
    gateway::{Astray, Entered, Entrance, choose},
    source::ClassId,
};

use super::{
    Decision, Destination, ExplainError, Explanation, Parts, Question, Seen, address, decision, outcome,
    steps,
};
use crate::{
    admin::{
        certificate,
        dump::{Asked, IngressSide, Step},
    },
    proxy::error::Kind,
};

/// Answers a question about a request from outside. The port is that of the destination, its host the one asked for.
pub(super) fn explain(
    snapshot: &Snapshot,
    seen: Seen<'_>,
    question: &Question,
) -> Result<Explanation, ExplainError> {
    let destination: Destination = question.destination.parse()?;
    let number = destination.port_or_default();
    let entrance = snapshot
        .gateway(number)
        .ok_or_else(|| no_gateway(snapshot, number))?;
    let parts = Parts::of_request(question, &destination)?;
    let request = parts.request().ok_or(ExplainError::NotHttp)?;
    let connection = Connection {
        class: ClassId::UNKNOWN,
        client: question.from.as_deref().and_then(address),
        dialled: destination.address(),
    };
    let entered = snapshot.enter(entrance, connection, &request);
    let rule = match &entered {
        Ok(Entered { rule, .. }) | Err(Astray::NoService(rule)) => Some(rule.origin().object.to_string()),
        Err(Astray::NoRule) => None,
    };
    let request_seen = entrance.seen(&request);
    let host = request_seen.authority;
    let shown = choose(entrance.credentials(), Some(host));
    let ingress = IngressSide {
        port: number,
        scheme: entrance.scheme().to_owned(),
        certificate: shown.map(|at| certificate(&entrance.credentials()[at])),
        rules: ingress_steps(snapshot, entrance, connection, &parts),
        rule,
    };
    let asked = Asked {
        from: question.from.clone(),
        class: ClassId::UNKNOWN.0,
        method: Some(parts.method.to_string()),
        destination: question.destination.clone(),
        headers: parts.shown_headers(),
    };
    Ok(match entered {
        Ok(Entered { route, .. }) => {
            let port = route.port();
            let outsider = Connection {
                dialled: None,
                ..connection
            };
            Explanation {
                generation: snapshot.generation(),
                asked,
                service: port.service().to_string(),
                port: port.number(),
                protocol: port.protocol().name().to_owned(),
                frontends: port.frontends().to_vec(),
                routed_by: "proxy".to_owned(),
                rules: steps(snapshot, port, outsider, Some(&request_seen)),
                decision: decision(snapshot, seen, &route, Some(&request_seen)),
                kernel: None,
                ingress: Some(ingress),
            }
        }
        Err(astray) => nowhere(snapshot, asked, ingress, &astray),
    })
}

/// The answer for a request that is refused at the port.
fn nowhere(snapshot: &Snapshot, asked: Asked, ingress: IngressSide, astray: &Astray<'_>) -> Explanation {
    let (service, port, kind) = match astray {
        Astray::NoRule => (String::new(), 0, Kind::NoRoute),
        Astray::NoService(rule) => {
            let (service, port) = rule.leads_to();
            (service.to_string(), port, Kind::NoService)
        }
    };
    Explanation {
        generation: snapshot.generation(),
        asked,
        service,
        port,
        protocol: "http".to_owned(),
        frontends: Vec::new(),
        routed_by: "proxy".to_owned(),
        rules: Vec::new(),
        decision: Decision {
            refusal: Some(kind.name().to_owned()),
            ..Decision::default()
        },
        kernel: None,
        ingress: Some(ingress),
    }
}

fn ingress_steps(
    snapshot: &Snapshot,
    entrance: &Entrance,
    connection: Connection,
    parts: &Parts,
) -> Vec<Step> {
    let Some(request) = parts.request() else {
        return Vec::new();
    };
    let steps = entrance_steps(snapshot, entrance, connection, &request).into_iter();
    steps
        .map(|(rule, found)| {
            let (outcome, reasons) = outcome(&found);
            let origin = rule.origin();
            Step {
                rule: origin.object.to_string(),
                file: origin.file.to_string(),
                line: origin.line,
                precedence: rule.precedence(),
                conditions: router_rules::explain::conditions_of_entrance(snapshot, rule),
                outcome,
                reasons,
            }
        })
        .collect()
}

fn no_gateway(snapshot: &Snapshot, port: u16) -> ExplainError {
    let open = snapshot
        .gateways()
        .iter()
        .map(|entrance| entrance.port().to_string());
    let open: Vec<_> = open.collect();
    ExplainError::NoGateway {
        port,
        hint: if open.is_empty() {
            "there is no ingress rule".to_owned()
        } else {
            format!("there are rules for {}", open.join(", "))
        },
    }
}

#[cfg(test)]
mod tests;
