//! Gateways of a snapshot, and which of their ports are listened on, as data. It opens nothing.

use router_rules::{
    Snapshot, explain,
    gateway::{Credential, Entrance, EntranceRule},
};

use super::dump::{CertificateDump, GatewayDump, GatewayRuleDump, GatewayStatus};
use crate::listening::{Listening, PortState};

/// How the ports are.
pub(super) fn status(snapshot: &Snapshot, listening: &Listening) -> Vec<GatewayStatus> {
    let of = |entrance: &Entrance| {
        let (state, addresses, error) = match listening.state(entrance.port()) {
            Some(PortState::Open(addresses)) => ("open", addresses.to_vec(), None),
            Some(PortState::Failed(why)) => ("failed", Vec::new(), Some(why.to_string())),
            None => ("opening", Vec::new(), None),
        };
        GatewayStatus {
            port: entrance.port(),
            scheme: entrance.scheme().to_owned(),
            state: state.to_owned(),
            addresses,
            error,
            rules: entrance.rules().len(),
            certificates: certificates(entrance),
        }
    };
    snapshot.gateways().iter().map(of).collect()
}

/// What the snapshot says of them.
pub(super) fn dump(snapshot: &Snapshot) -> Vec<GatewayDump> {
    let rule = |rule: &EntranceRule| {
        let origin = rule.origin();
        let (service, port) = rule.leads_to();
        GatewayRuleDump {
            rule: origin.object.to_string(),
            file: origin.file.to_string(),
            line: origin.line,
            precedence: rule.precedence(),
            conditions: explain::conditions_of_entrance(snapshot, rule),
            service: service.to_string(),
            service_port: port,
            secret: rule.secret().map(str::to_owned),
        }
    };
    let of = |entrance: &Entrance| GatewayDump {
        port: entrance.port(),
        scheme: entrance.scheme().to_owned(),
        certificates: certificates(entrance),
        rules: entrance.rules().iter().map(rule).collect(),
    };
    snapshot.gateways().iter().map(of).collect()
}

fn certificates(entrance: &Entrance) -> Vec<CertificateDump> {
    let credentials = entrance.credentials().iter();
    credentials.map(|credential| certificate(credential)).collect()
}

/// A certificate without its key.
pub(crate) fn certificate(credential: &Credential) -> CertificateDump {
    CertificateDump {
        secret: credential.secret.to_string(),
        names: credential.names.clone(),
        from: moment(credential.validity.from),
        until: moment(credential.validity.until),
    }
}

fn moment(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok();
    let moment = moment.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    moment.unwrap_or(jiff::Timestamp::MAX).to_string()
}
