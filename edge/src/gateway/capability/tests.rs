use std::time::{Duration, SystemTime};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jsonwebtoken::{EncodingKey, Header};
use protocol::feed::{FeedMessage, FeedState, FeedTokenKey, Item};
use serde_json::{Value, json};

use super::*;
use crate::knowledge::Knowledge;

const NOW: u64 = 1_800_000_000;
const ID: &str = "0192d3a4-5b6c-7d8e-9f00-112233445566";

/// A key pair, and how it signs.
struct Signer {
    pkcs8: Vec<u8>,
    public: PublicKey,
}

impl Signer {
    fn new() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let public = PublicKey::try_from(pair.public_key().as_ref()).unwrap();
        Self { pkcs8: pkcs8.as_ref().to_vec(), public }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let pair = Ed25519KeyPair::from_pkcs8(&self.pkcs8).unwrap();
        let signature = pair.sign(message.as_bytes());
        format!("{message}.{}", BASE64.encode(signature.as_ref()))
    }
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()))
}

fn good_header() -> Value {
    json!({ "alg": "EdDSA", "typ": claims::TYPE, "kid": "k1" })
}

fn good_claims() -> Value {
    json!({
        "iss": claims::ISSUER, "aud": claims::AUDIENCE, "sub": ID, "tenant": ID, "team": ID,
        "tunnel": ID, "exp": NOW + 300, "nbf": NOW, "iat": NOW, "jti": "1",
    })
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
        value => object[name] = value,
    }
    object
}

fn knowledge(keys: &[(&str, PublicKey)]) -> Knowledge {
    let now = SystemTime::now();
    let knowledge = Knowledge::new(FeedState::default(), now, Duration::from_secs(60));
    let keys = keys.iter().map(|(kid, public_key)| {
        Item::TokenKey(FeedTokenKey { kid: (*kid).into(), public_key: *public_key })
    });
    knowledge.apply(FeedMessage::Snapshot { generation: 1, items: keys.collect() }, now);
    knowledge
}

#[test]
fn no_forged_token_is_accepted() {
    let (signer, stranger, other) = (Signer::new(), Signer::new(), Signer::new());
    let knowledge = knowledge(&[("k1", signer.public), ("k2", other.public)]);
    let mut forged: Vec<(String, String)> = Vec::new();
    let mut forge = |what: String, token: String| forged.push((what, token));
    let good = signer.sign(&good_header(), &good_claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();

    for alg in ["none", "None", "HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "EdDsa", ""] {
        let header = with(good_header(), "alg", alg.into());
        forge(format!("alg {alg}"), signer.sign(&header, &good_claims()));
        forge(format!("alg {alg}, no signature"), message(&header, &good_claims()) + ".");
        forge(format!("alg {alg}, two parts"), message(&header, &good_claims()));
    }
    for algorithm in [
        jsonwebtoken::Algorithm::HS256,
        jsonwebtoken::Algorithm::HS384,
        jsonwebtoken::Algorithm::HS512,
    ] {
        let mut header = Header::new(algorithm);
        (header.typ, header.kid) = (Some(claims::TYPE.into()), Some("k1".into()));
        let text = String::from(signer.public);
        for secret in [signer.public.as_bytes().as_slice(), text.as_bytes(), b""] {
            let key = EncodingKey::from_secret(secret);
            let token = jsonwebtoken::encode(&header, &good_claims(), &key).unwrap();
            forge(format!("{algorithm:?} with the public key"), token);
        }
    }
    for kid in
        [json!("k2"), json!("k3"), json!(""), json!("K1"), json!(1), json!(["k1"]), Value::Null]
    {
        let header = with(good_header(), "kid", kid.clone());
        forge(format!("kid {kid}"), signer.sign(&header, &good_claims()));
    }
    for typ in
        [json!("JWT"), json!("at+jwt"), json!(""), json!("Postern-capability+jwt"), Value::Null]
    {
        let header = with(good_header(), "typ", typ.clone());
        forge(format!("typ {typ}"), signer.sign(&header, &good_claims()));
    }
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("alg", json!(["EdDSA"])),
        ("alg", Value::Null),
        ("typ", json!({ "a": 1 })),
    ] {
        let header = with(good_header(), name, value.clone());
        forge(format!("header {name} {value}"), signer.sign(&header, &good_claims()));
    }
    let own_key = json!({ "kty": "OKP", "crv": "Ed25519", "x": String::from(stranger.public) });
    for (name, value) in [
        ("jwk", own_key),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/chain")),
    ] {
        let header = with(good_header(), name, value);
        forge(format!("a stranger's {name}"), stranger.sign(&header, &good_claims()));
    }
    forge("a stranger's key".into(), stranger.sign(&good_header(), &good_claims()));
    forge("another key's signature".into(), other.sign(&good_header(), &good_claims()));

    let numbers = ["exp", "nbf", "iat"];
    for name in ["iss", "aud", "sub", "tenant", "team", "tunnel", "exp", "nbf", "iat", "jti"] {
        let mut values = vec![
            Value::Null,
            json!({}),
            json!([]),
            json!(true),
            json!([good_claims()[name]]),
            json!(1.5),
            json!(-1),
        ];
        if numbers.contains(&name) {
            values.extend([json!(good_claims()[name].to_string()), json!("never")]);
        } else {
            values.push(json!(1));
        }
        if !["iss", "aud", "jti"].contains(&name) {
            values.push(json!("not an id"));
        }
        for value in values {
            let claims = with(good_claims(), name, value.clone());
            forge(format!("{name} {value}"), signer.sign(&good_header(), &claims));
        }
    }
    for (name, value) in [
        ("iss", json!("postern2")),
        ("iss", json!("")),
        ("aud", json!("postern")),
        ("aud", json!("postern-gateway2")),
        ("exp", json!(NOW - 61)),
        ("exp", json!(NOW - 60)),
        ("exp", json!(0)),
        ("exp", json!(u64::MAX)),
        ("exp", json!(NOW + 301)),
        ("nbf", json!(NOW - 1)),
        ("nbf", json!(NOW + 61)),
        ("nbf", json!(u64::MAX)),
        ("nbf", json!(0)),
    ] {
        let claims = with(good_claims(), name, value.clone());
        forge(format!("{name} {value}"), signer.sign(&good_header(), &claims));
    }
    let twice = good_claims().to_string().replacen('{', r#"{"exp":99999999999,"#, 1);
    let message = format!("{}.{}", BASE64.encode(good_header().to_string()), BASE64.encode(twice));
    let pair = Ed25519KeyPair::from_pkcs8(&signer.pkcs8).unwrap();
    let sealed = BASE64.encode(pair.sign(message.as_bytes()).as_ref());
    forge("a claim twice".into(), format!("{message}.{sealed}"));

    let claims = BASE64.encode(with(good_claims(), "jti", "2".into()).to_string());
    let header = signed.split_once('.').unwrap().0;
    forge("other claims".into(), format!("{header}.{claims}.{signature}"));
    for position in (0..good.len()).step_by(7) {
        let replacement = if good.as_bytes()[position] == b'A' { "B" } else { "A" };
        let mut changed = good.clone();
        changed.replace_range(position..=position, replacement);
        forge(format!("byte {position}"), changed);
    }
    for length in (0..good.len()).step_by(41) {
        forge(format!("{length} bytes"), good[..length].to_owned());
    }
    for text in
        [".", "..", "...", "a.b.c", &format!("{good}."), &format!(".{good}"), &format!("{good}=")]
    {
        forge("punctuation".into(), text.to_owned());
    }

    assert!(forged.len() >= 200, "{}", forged.len());
    let capabilities = Capabilities::default();
    for round in 0..2 {
        for (what, token) in &forged {
            let verified = capabilities.verify(token, &knowledge.read(), NOW);
            assert_eq!(verified, None, "round {round}: {what}");
        }
        // The second round meets a warm memory.
        assert!(capabilities.verify(&good, &knowledge.read(), NOW).is_some());
    }
}

#[test]
fn a_remembered_token_is_judged_again_each_time() {
    let signer = Signer::new();
    let known = knowledge(&[("k1", signer.public)]);
    let capabilities = Capabilities::default();
    let token = signer.sign(&good_header(), &good_claims());
    let verify =
        |knowledge: &Knowledge, now| capabilities.verify(&token, &knowledge.read(), now).is_some();
    assert!(verify(&known, NOW));
    assert!(verify(&known, NOW + 300 + LEEWAY_S - 1));
    assert!(!verify(&known, NOW + 300 + LEEWAY_S), "expired");
    assert!(!verify(&known, NOW - LEEWAY_S - 1), "not yet valid");
    assert!(!verify(&knowledge(&[]), NOW), "its key is gone");
    assert!(!verify(&knowledge(&[("k1", Signer::new().public)]), NOW), "its key is another one");
    assert!(verify(&known, NOW));
}

#[test]
fn memory_is_bounded_and_keeps_what_is_used() {
    let verified = Verified {
        capability: serde_json::from_value(good_claims()).unwrap(),
        kid: "k1".into(),
        key: PublicKey::from_bytes([0; 32]),
    };
    let mut remembered = Remembered::default();
    let digest = |n: usize| -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        digest
    };
    for n in 0..5 * REMEMBERED {
        remembered.put(digest(n), verified.clone());
        assert!(remembered.get(&digest(0)).is_some(), "used all the time");
        assert!(remembered.younger.len() + remembered.older.len() <= 2 * REMEMBERED);
    }
    assert!(remembered.get(&digest(1)).is_none());
}
