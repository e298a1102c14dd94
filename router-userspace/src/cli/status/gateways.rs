//! The ports of ingress rules in `router status`.

use crate::{
    admin::dump::GatewayStatus,
    cli::text::{Paint, Table, or_dash},
};

pub(super) fn table(gateways: &[GatewayStatus], paint: Paint) -> Option<String> {
    let mut table = Table::new(["INGRESS PORT", "SPEAKS", "STATE", "AT", "RULES", "CERTIFICATES"]);
    for gateway in gateways {
        let addresses: Vec<_> = gateway.addresses.iter().map(ToString::to_string).collect();
        let at = match &gateway.error {
            Some(error) => error.clone(),
            None => or_dash((!addresses.is_empty()).then(|| addresses.join(", "))),
        };
        let certificates = gateway.certificates.iter();
        let certificates: Vec<_> = certificates
            .map(|certificate| format!("{} until {}", certificate.secret, certificate.until))
            .collect();
        table.row([
            gateway.port.to_string(),
            gateway.scheme.clone(),
            gateway.state.clone(),
            at,
            gateway.rules.to_string(),
            or_dash((!certificates.is_empty()).then(|| certificates.join(", "))),
        ]);
    }
    let line = |row: &[String; 6], line: &str| {
        if row[2] == "open" {
            line.to_owned()
        } else {
            paint.bad(line)
        }
    };
    (!gateways.is_empty()).then(|| table.render(paint, line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::dump::CertificateDump;

    #[test]
    fn ports_read_well() {
        let open = GatewayStatus {
            port: 443,
            scheme: "https".into(),
            state: "open".into(),
            addresses: vec!["0.0.0.0:443".parse().unwrap(), "[::]:443".parse().unwrap()],
            error: None,
            rules: 2,
            certificates: vec![CertificateDump {
                secret: "default/shop-tls".into(),
                names: vec!["shop.example.com".into()],
                from: "2026-01-01T00:00:00Z".into(),
                until: "2027-01-01T00:00:00Z".into(),
            }],
        };
        let failed = GatewayStatus {
            port: 80,
            scheme: "http".into(),
            state: "failed".into(),
            addresses: Vec::new(),
            error: Some("cannot listen on 0.0.0.0:80: Address already in use".into()),
            rules: 1,
            certificates: Vec::new(),
        };
        let expected = "\
INGRESS PORT  SPEAKS  STATE   AT                                                   RULES  CERTIFICATES
80            http    failed  cannot listen on 0.0.0.0:80: Address already in use  1      -
443           https   open    0.0.0.0:443, [::]:443                                2      default/shop-tls until 2027-01-01T00:00:00Z
";
        assert_eq!(table(&[failed, open], Paint::plain()).unwrap(), expected);
        assert_eq!(table(&[], Paint::plain()), None);
    }
}
