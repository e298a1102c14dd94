//! What is taken for a certificate and a key, and that keys are shown to nobody.

use base64::Engine as _;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use super::*;
use crate::{compile::compile, config::Documents};

const RULE: &str =
    "type: ingress-rule\nname: shop\nspec:\n  tlsSecret: shop\n  destination: {name: a}\n---\n";
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  clusterIP: 10.0.0.1\n  \
                       ports: [{name: http, port: 80}]\n---\n";

fn made(key: &KeyPair, hosts: &[&str]) -> String {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let params = CertificateParams::new(hosts).unwrap();
    params.self_signed(key).unwrap().pem()
}

fn indented(pem: &str) -> String {
    pem.lines().map(|line| format!("    {line}\n")).collect()
}

fn plain(certificate: &str, key: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: shop}}\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indented(certificate),
        indented(key)
    )
}

fn read_all(secret: &str) -> (Documents, Result<Compiled, Vec<Finding>>) {
    let mut documents = Documents::default();
    documents.add_text("all.yaml", &[SERVICE, RULE, secret].concat());
    let compiled = compile(&documents);
    (documents, compiled)
}

fn credential(secret: &str) -> Arc<Credential> {
    let compiled = read_all(secret).1.unwrap();
    assert_eq!(compiled.findings, []);
    let credential = compiled.model.gateways[0].rules[0].credential.clone();
    credential.unwrap()
}

#[test]
fn every_usual_kind_of_key_is_taken_plain_and_in_base64() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = made(&key, &["Shop.test", "*.shop.test", "10.0.0.1"]);
        let read = credential(&plain(&certificate, &key.serialize_pem()));
        assert_eq!(read.names, ["shop.test", "*.shop.test", "10.0.0.1"]);
        assert_eq!(&*read.secret, "default/shop");
        let encoded = |text: &str| indented(&STANDARD.encode(text));
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: shop}}\ndata:\n  tls.crt: |\n{}  tls.key: |\n{}",
            encoded(&certificate),
            encoded(&key.serialize_pem())
        );
        assert_eq!(credential(&secret), read);
    }
}

#[test]
fn a_chain_keeps_its_order() {
    let (own, above) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (first, second) = (made(&own, &["shop.test"]), made(&above, &["above.test"]));
    let read = credential(&plain(&[&*first, &*second].concat(), &own.serialize_pem()));
    assert_eq!(
        (read.chain.len(), &read.names[..]),
        (2, &["shop.test".to_owned()][..])
    );
    // The other way round the key is another certificate's.
    let (_, refused) = read_all(&plain(&[&*second, &*first].concat(), &own.serialize_pem()));
    assert_eq!(refused.unwrap_err()[0].code, codes::KEY_MISMATCH.name);
    let long = first.repeat(MAX_CHAIN + 1);
    let (_, refused) = read_all(&plain(&long, &own.serialize_pem()));
    assert_eq!(refused.unwrap_err()[0].code, codes::INVALID_CERTIFICATE.name);
}

#[test]
fn a_certificate_is_judged_by_the_time_that_is_given() {
    let key = KeyPair::generate().unwrap();
    let compiled = read_all(&plain(&made(&key, &["shop.test"]), &key.serialize_pem()))
        .1
        .unwrap();
    let Validity { from, until } = compiled.model.gateways[0].rules[0]
        .credential
        .as_ref()
        .unwrap()
        .validity;
    let codes = |now| -> Vec<_> { compiled.findings_at(now).iter().map(|f| f.code).collect() };
    assert_eq!(codes(from), Vec::<&str>::new());
    assert_eq!(codes(until), Vec::<&str>::new());
    assert_eq!(codes(from - 1), ["certificate-not-yet-valid"]);
    assert_eq!(codes(until + 1), ["certificate-expired"]);
}

/// What is in a key and nowhere else: the middle of its PEM text, of that in Base64, and of its bytes.
fn traces(pem: &str, der: &[u8]) -> Vec<String> {
    let line = pem.lines().nth(1).unwrap();
    let bytes = &der[der.len() / 2..der.len() / 2 + 8];
    let encoded = STANDARD.encode(pem);
    vec![
        line[8..40].to_owned(),
        encoded[80..120].to_owned(),
        format!("{bytes:?}").trim_matches(['[', ']']).to_owned(),
    ]
}

#[test]
fn keys_are_shown_to_nobody() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (pem, certificate) = (key.serialize_pem(), made(&key, &["shop.test"]));
    let line = pem.lines().nth(1).unwrap();
    let mut shown = Vec::new();
    for secret in [
        plain(&certificate, &pem),
        // Wrong in every way that there is.
        plain(&made(&other, &["shop.test"]), &pem),
        plain(&certificate, line),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: shop}}\ndata: {line}\n"),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: shop}}\ndata: {{tls.crt: {line}, tls.key: [{line}]}}\n"
        ),
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: shop}}\ntype: [{line}]\n"),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: shop}}\ndata: {{tls.crt: {line}, tls.key: {line}}}\n"
        ),
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: shop}}\ndata:\n  tls.key: {line}\n tls.crt: x\n"
        ),
    ] {
        let (documents, compiled) = read_all(&secret);
        // The text itself is kept for findings' lines; what was read out of it is not shown.
        shown.push(format!(
            "{:?}",
            documents.secrets.iter().map(|d| &d.body).collect::<Vec<_>>()
        ));
        match compiled {
            Ok(compiled) => {
                shown.push(format!("{:?}", compiled.model));
                let snapshot = router_rules::Snapshot::build(compiled.model, 1);
                shown.push(format!("{snapshot:?}"));
            }
            Err(findings) => shown.push(format!("{findings:?}")),
        }
    }
    for trace in traces(&pem, &key.serialize_der()) {
        assert!(
            shown.iter().all(|text| !text.contains(&trace)),
            "{trace} is shown"
        );
    }
    assert!(shown.iter().any(|text| text.contains("Key(…)")));
}
