use std::time::Duration;

use base64::engine::general_purpose::STANDARD;
use protocol::{
    access::Access,
    credential::CredentialSecret,
    feed::{FeedMessage, FeedProxyToken, FeedState, Item, ItemKey},
    id::{ProxyTokenId, TeamId, TenantId, TunnelId},
};

use super::*;

const TENANT: TenantId = TenantId::from_bytes([1; 16]);
const TUNNEL: TunnelId = TunnelId::from_bytes([2; 16]);
const TOKEN: ProxyTokenId = ProxyTokenId::from_bytes([3; 16]);

fn knowledge(now: SystemTime, expires_at: u64) -> Knowledge {
    let knowledge = Knowledge::new(FeedState::default(), now, Duration::from_secs(60));
    let tunnel = FeedTunnel {
        id: TUNNEL,
        tenant: TENANT,
        name: "office".parse().unwrap(),
        access: Access::AnyTeam,
        keys: vec![],
        orders: vec![],
    };
    let token = FeedProxyToken {
        id: TOKEN,
        digest: CredentialSecret::from_bytes([9; 32]).digest(),
        tenant: TENANT,
        team: TeamId::from_bytes([4; 16]),
        workflow: None,
        expires_at,
        response_timeout_s: None,
    };
    let items = vec![Item::Tunnel(tunnel), Item::ProxyToken(token)];
    knowledge.apply(FeedMessage::Snapshot { generation: 1, items }, now);
    knowledge
}

fn token(id: ProxyTokenId, secret: u8) -> String {
    let secret = CredentialSecret::from_bytes([secret; 32]);
    ProxyToken { id, secret }.encode().to_string()
}

#[test]
fn credentials_are_read_in_every_form_that_clients_send_and_no_other() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let (knowledge, callers) = (knowledge(now, 2_000), Callers::default());
    let judge = |values: &[String]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::PROXY_AUTHORIZATION, value.parse().unwrap());
        }
        callers
            .judge(&knowledge, &headers, &LastCaller::default(), now)
            .map(|grant| grant.tunnel)
            .map_err(|denied| denied.refusal.code)
    };
    let pair = format!("office:{}", token(TOKEN, 9));
    let encoded = STANDARD.encode(&pair);
    for good in [
        format!("Basic {encoded}"),
        format!("basic {encoded}"),
        format!("BASIC  {encoded} "),
        format!("Basic {}", encoded.trim_end_matches('=')),
    ] {
        assert_eq!(judge(std::slice::from_ref(&good)), Ok(TUNNEL), "{good}");
    }
    assert_eq!(judge(&[]), Err(Code::NoCredentials));
    for bad in [
        String::new(),
        "Basic".into(),
        "Basic ".into(),
        format!("Basic{encoded}"),
        format!("Bearer {encoded}"),
        format!("Basic {encoded}A"),
        format!("Basic {}", STANDARD.encode("office")),
        format!("Basic {}", STANDARD.encode([0xff, b':', b'x'])),
        format!("Basic {}", STANDARD.encode(":")),
        format!("Basic {}", STANDARD.encode("office:")),
        format!("Basic {}", STANDARD.encode(format!("{pair}:"))),
        format!("Basic {}", STANDARD.encode("x".repeat(9_000))),
    ] {
        assert_eq!(judge(std::slice::from_ref(&bad)), Err(Code::BadCredentials), "{bad}");
    }
    let good = format!("Basic {encoded}");
    assert_eq!(judge(&[good.clone(), good]), Err(Code::BadCredentials), "which one counts?");
}

#[test]
fn a_proxy_token_holds_until_it_expires_and_only_with_its_secret() {
    let expires_at = 2_000;
    let judge = |at: u64, tunnel: &str, token: &str| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        let mut headers = HeaderMap::new();
        let value = format!("Basic {}", STANDARD.encode(format!("{tunnel}:{token}")));
        headers.insert(header::PROXY_AUTHORIZATION, value.parse().unwrap());
        let grant = Callers::default().judge(
            &knowledge(now, expires_at),
            &headers,
            &LastCaller::default(),
            now,
        );
        grant.map(|grant| grant.token).map_err(|denied| denied.refusal.code)
    };
    assert_eq!(judge(1_999, "office", &token(TOKEN, 9)), Ok(Some(TOKEN)));
    assert_eq!(judge(2_000, "office", &token(TOKEN, 9)), Err(Code::BadCredentials));
    assert_eq!(judge(1_000, "office", &token(TOKEN, 8)), Err(Code::BadCredentials));
    let other = ProxyTokenId::from_bytes([5; 16]);
    assert_eq!(judge(1_000, "office", &token(other, 9)), Err(Code::BadCredentials));
    assert_eq!(judge(1_000, "Office", &token(TOKEN, 9)), Err(Code::UnknownTunnel));
    assert_eq!(judge(1_000, "", &token(TOKEN, 9)), Err(Code::UnknownTunnel));
}

#[test]
fn nobody_is_let_in_by_knowledge_that_is_too_old() {
    let heard_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let knowledge = knowledge(heard_at, u64::MAX);
    let later = heard_at + Duration::from_secs(62);
    let judged =
        Callers::default().judge(&knowledge, &HeaderMap::new(), &LastCaller::default(), later);
    assert_eq!(judged.unwrap_err().refusal.code, Code::FeedStale);
}

#[test]
fn what_a_connection_has_proven_holds_until_it_expires_or_the_feed_changes() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let (knowledge, callers, last) =
        (knowledge(at(1_000), 1_030), Callers::default(), LastCaller::default());
    let judge = |seconds, secret| {
        let mut headers = HeaderMap::new();
        let value =
            format!("Basic {}", STANDARD.encode(format!("office:{}", token(TOKEN, secret))));
        headers.insert(header::PROXY_AUTHORIZATION, value.parse().unwrap());
        callers
            .judge(&knowledge, &headers, &last, at(seconds))
            .map(|_| ())
            .map_err(|denied| denied.refusal.code)
    };
    assert_eq!(judge(1_000, 9), Ok(()));
    assert_eq!(judge(1_001, 8), Err(Code::BadCredentials), "others prove nothing");
    assert_eq!(judge(1_029, 9), Ok(()));
    assert_eq!(judge(1_030, 9), Err(Code::BadCredentials), "expired");
    assert_eq!(judge(1_029, 9), Ok(()));
    let remove = vec![ItemKey::ProxyToken(TOKEN)];
    knowledge.apply(FeedMessage::Change { generation: 2, put: vec![], remove }, at(1_029));
    assert_eq!(judge(1_029, 9), Err(Code::BadCredentials), "revoked");
    assert!(!format!("{last:?}").contains(&STANDARD.encode("office:")[..6]), "shown");
}

#[test]
fn what_an_edge_does_not_know_yet_is_not_the_clients_fault() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let saved = knowledge(now, 2_000).read().feed().clone();
    let knowledge = Knowledge::new(saved, now, Duration::from_secs(60));
    let judge = |tunnel: &str, id| {
        let credentials = STANDARD.encode(format!("{tunnel}:{}", token(id, 9)));
        let value = format!("Basic {credentials}").parse().unwrap();
        let headers = HeaderMap::from_iter([(header::PROXY_AUTHORIZATION, value)]);
        let judged = Callers::default().judge(&knowledge, &headers, &LastCaller::default(), now);
        judged.map(|grant| grant.tunnel).map_err(|denied| denied.refusal.code)
    };
    let new = ProxyTokenId::from_bytes([5; 16]);
    assert_eq!(judge("office", TOKEN), Ok(TUNNEL));
    assert_eq!(judge("new", TOKEN), Err(Code::EdgeUnavailable));
    assert_eq!(judge("office", new), Err(Code::EdgeUnavailable));
    knowledge.apply(FeedMessage::Alive { generation: 1 }, now);
    assert_eq!(judge("new", TOKEN), Err(Code::UnknownTunnel));
    assert_eq!(judge("office", new), Err(Code::BadCredentials));
}
