//! Examples of what passes and what does not, and what holds for every policy.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const EXAMPLE: &str = r#"
[[allow]]
name = "the wiki"
hosts = ["wiki.corp"]
ports = [80, 443]

[[allow]]
hosts = ["*.api.corp", "10.0.0.0/8", "fd00::/8"]
ports = ["8000-8100"]
methods = ["GET", "POST"]
paths = ["/v1", "/health/"]

[[allow]]
hosts = ["169.254.169.254"]
ports = [80]

[[deny]]
name = "no admin"
hosts = ["*"]
paths = ["/v1/admin"]

[[deny]]
hosts = ["10.66.0.0/16", "secret.api.corp"]
"#;

fn example() -> Policy {
    Policy::from_toml(EXAMPLE).unwrap()
}

/// `METHOD http://host:port/path at address`, or `CONNECT host:port at address`.
fn decide(policy: &Policy, text: &str) -> &'static str {
    let (text, address) = match text.split_once(" at ") {
        Some((text, address)) => (text, Some(address.parse().unwrap())),
        None => (text, None),
    };
    let (method, target) = text.split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    let behind = target.strip_prefix("http://").unwrap_or(target);
    let cut = behind.find('/').unwrap_or(behind.len());
    let ((host, port), path) = (behind[..cut].rsplit_once(':').unwrap(), &behind[cut..]);
    let path = path.split('?').next().unwrap();
    let what = match method {
        Method::CONNECT => What::Tunnel,
        _ => What::Http { method: &method, path },
    };
    let request =
        Request { host: host.trim_matches(['[', ']']), port: port.parse().unwrap(), what };
    match policy.evaluate(&request, address) {
        Decision::Allowed => "allowed",
        Decision::Refused(reason) => reason.as_str(),
    }
}

#[test]
fn a_request_passes_if_a_rule_allows_it_and_none_denies_it() {
    let policy = example();
    for (request, decision) in [
        ("GET http://wiki.corp:80/anything", "allowed"),
        ("DELETE http://wiki.corp:443/", "allowed"),
        ("CONNECT wiki.corp:443", "needs_tls"),
        ("GET http://wiki.corp:81/", "not_allowed"),
        ("GET http://other.corp:80/ at 192.168.1.1", "not_allowed"),
        ("GET http://a.api.corp:8000/v1", "allowed"),
        ("POST http://a.b.api.corp:8100/v1/x?y", "allowed"),
        ("GET http://a.api.corp:8000/health", "allowed"),
        ("PUT http://a.api.corp:8000/v1", "not_allowed"),
        ("GET http://a.api.corp:8000/v10", "not_allowed"),
        ("GET http://a.api.corp:7999/v1", "not_allowed"),
        ("GET http://api.corp:8000/v1 at 192.168.1.1", "not_allowed"),
        ("GET http://evilapi.corp:8000/v1 at 192.168.1.1", "not_allowed"),
        ("GET http://a.api.corp:8000/v1/admin", "denied"),
        ("GET http://a.api.corp:8000/v1/admin/users", "denied"),
        ("GET http://a.api.corp:8000/V1/ADMIN", "denied"),
        ("GET http://secret.api.corp:8000/v1", "denied"),
        ("CONNECT a.api.corp:8000", "needs_tls"),
    ] {
        assert_eq!(decide(&policy, request), decision, "{request}");
    }
}

#[test]
fn networks_are_judged_by_the_address_that_would_be_dialled() {
    let policy = example();
    for (request, decision) in [
        ("GET http://any.name:8000/v1", "allowed"),
        ("GET http://any.name:8000/v1 at 10.1.2.3", "allowed"),
        ("GET http://any.name:8000/v1 at ::ffff:10.1.2.3", "allowed"),
        ("GET http://any.name:8000/v1 at 11.1.2.3", "not_allowed"),
        ("GET http://any.name:8000/v1 at 10.66.0.1", "denied"),
        ("GET http://any.name:8000/v1 at 64:ff9b::10.66.0.1", "denied"),
        ("GET http://a.api.corp:8000/v1 at 10.66.0.1", "denied"),
        ("GET http://a.api.corp:8000/v1 at 8.8.8.8", "allowed"),
        ("GET http://10.66.0.1:8000/v1", "denied"),
        ("GET http://[::ffff:10.66.0.1]:8000/v1", "denied"),
        ("GET http://10.1.2.3:8000/v1", "allowed"),
        ("GET http://0x0a010203:8000/v1 at 10.1.2.3", "allowed"),
        ("GET http://0x0a420001:8000/v1 at 10.66.0.1", "denied"),
        ("GET http://11.1.2.3:8000/v1", "not_allowed"),
    ] {
        assert_eq!(decide(&policy, request), decision, "{request}");
    }
}

#[test]
fn special_addresses_are_reached_only_by_the_rule_that_names_them() {
    let policy = example();
    for (request, decision) in [
        ("GET http://169.254.169.254:80/latest at 169.254.169.254", "allowed"),
        ("GET http://metadata:80/latest at 169.254.169.254", "allowed"),
        ("GET http://169.254.169.254:8000/v1 at 169.254.169.254", "special_address"),
        ("GET http://wiki.corp:443/ at 169.254.169.254", "special_address"),
        ("GET http://wiki.corp:80/ at 169.254.1.1", "special_address"),
    ] {
        assert_eq!(decide(&policy, request), decision, "{request}");
    }
    let wide =
        "[[allow]]\nhosts = ['*', '0.0.0.0/0', '::/0', '169.254.0.0/16', '0.0.0.0', '224.0.0.1']";
    let wide = Policy::from_toml(wide).unwrap();
    assert_eq!(decide(&wide, "CONNECT a:1 at 10.0.0.1"), "allowed");
    for address in ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "0.0.0.0", "224.0.0.1"] {
        let request = format!("CONNECT a:1 at {address}");
        assert_eq!(decide(&wide, &request), "special_address", "{request}");
    }
}

#[test]
fn no_spelling_of_a_host_walks_around_a_rule() {
    let policy = example();
    for host in ["SECRET.api.CORP", "secret.api.corp.", "Secret.Api.Corp."] {
        let request = format!("GET http://{host}:8000/v1");
        assert_eq!(decide(&policy, &request), "denied", "{request}");
    }
    for host in ["secret.api.corp..", "secret%2eapi.corp", "sécret.api.corp", "", ".", "a b"] {
        let request = format!("GET http://{host}:8000/v1 at 10.1.1.1");
        assert_eq!(decide(&policy, &request), "bad_host", "{request}");
    }
}

#[test]
fn no_spelling_of_a_path_walks_around_a_rule() {
    let policy = example();
    for path in [
        "/v1/admin/",
        "/v1/%61dmin",
        "/v1/%61%64min/x",
        "/v1//admin",
        "//v1/admin",
        "/v1/./admin",
        "/v1/%2e/admin",
        "/v1/x/../admin",
        "/v1/x/%2e%2E/admin",
        "/v1/x/.%2e/admin",
        "/v1%2fadmin",
        "/v1/%61dmin%2Fx",
        "/v1\\admin",
        "/v1/%5cadmin",
        "/v1/admin;x=1",
        "/v1/..;/v1/admin",
        "/v1/%252e%252e/admin",
        "/v1/%25%32%65/x",
        "/v1/admin%00",
        "/v1/admin.",
        "/v1/admin%20",
        "/v1/%c0%afadmin",
        "/v1/%u0061dmin",
        "/v1/%zz",
        "/v1/%",
    ] {
        assert_eq!(
            decide(&policy, &format!("GET http://a.api.corp:8000{path}")),
            "denied",
            "{path}"
        );
    }
    let allowing = "[[allow]]\nhosts = ['*']\npaths = ['/public']";
    let allowing = Policy::from_toml(allowing).unwrap();
    for path in ["/public/../admin", "/admin/../public", "/public/%2e%2e/admin", "//public", "*"] {
        let request = format!("GET http://a:1/{}", &path[usize::from(path.starts_with('/'))..]);
        let decision = decide(&allowing, &request);
        assert!(["ambiguous_path", "not_allowed"].contains(&decision), "{path}: {decision}");
    }
    assert_eq!(decide(&allowing, "GET http://a:1/public/a%20b/%C3%A9?x=/../"), "allowed");
    assert_eq!(decide(&allowing, "GET http://a:1/Public"), "not_allowed");
}

#[test]
fn what_nobody_can_read_needs_a_rule_of_its_own() {
    let policy = r#"
[[allow]]
hosts = ["db.corp"]
methods = ["CONNECT"]
ports = [5432]
[[allow]]
hosts = ["*.corp"]
[[deny]]
hosts = ["pay.corp"]
methods = ["DELETE"]
[[deny]]
hosts = ["web.corp"]
methods = ["CONNECT"]
"#;
    let policy = Policy::from_toml(policy).unwrap();
    assert_eq!(decide(&policy, "CONNECT db.corp:5432"), "allowed");
    assert_eq!(decide(&policy, "CONNECT other.corp:1"), "allowed");
    assert_eq!(decide(&policy, "CONNECT pay.corp:443"), "needs_tls");
    assert_eq!(decide(&policy, "GET http://pay.corp:443/"), "allowed");
    assert_eq!(decide(&policy, "CONNECT web.corp:443"), "denied");
    assert_eq!(decide(&policy, "GET http://web.corp:443/"), "allowed");
    assert_eq!(decide(&Policy::default(), "CONNECT web.corp:443"), "not_allowed");
}

#[test]
fn a_file_that_is_not_understood_is_refused_with_the_line_and_a_hint() {
    for (text, error) in [
        ("[[alow]]\nhosts = ['a']", "line 1: \"alow\" is not known here: did you mean allow?"),
        ("\n[[allow]]\nhost = ['a']", "line 3: \"host\" is not known here: did you mean hosts?"),
        (
            "[[allow]]\nhosts = ['a']\nquux = 1",
            "line 3: \"quux\" is not known here: expected one of name, hosts, ports, methods, paths",
        ),
        ("[[allow]]\nports = [1]", "line 1: missing field `hosts`"),
        (
            "[[allow]]\nhosts = []",
            "line 2: an empty list matches nothing: fill it, or leave it out",
        ),
        ("[[allow]]\nhosts = ['a']\nhosts = ['b']", "line 3: duplicate key"),
        ("[[allow]\n", "line 1: "),
        ("[[allow]]\nhosts = ['10.0.0.1/8']", "line 2: \"10.0.0.1/8\" is no host: expected a name"),
        ("[[allow]]\nhosts = ['127.1']", "line 2: \"127.1\" is no host: "),
        ("[[allow]]\nhosts = ['a*']", "line 2: \"a*\" is no host: "),
        ("[[allow]]\nhosts = ['a']\nports = [0]", "line 3: 0 is no port: "),
        ("[[allow]]\nhosts = ['a']\nports = ['9-1']", "line 3: \"9-1\" is no port: "),
        ("[[allow]]\nhosts = ['a']\nports = [70000]", "line 3: expected a port such as 443"),
        ("[[allow]]\nhosts = ['a']\nmethods = ['get']", "line 3: \"get\" is no method: "),
        ("[[allow]]\nhosts = ['a']\npaths = ['a/../b']", "line 3: \"a/../b\" is no path prefix: "),
        (
            "[[allow]]\nhosts = ['a']\nmethods = ['CONNECT']\npaths = ['/']",
            "line 1: a rule with paths cannot have the method CONNECT",
        ),
    ] {
        let said = Policy::from_toml(text).unwrap_err().to_string();
        assert!(said.starts_with(error), "{text}\n{said}");
        assert!(!said.contains('\n'), "{said}");
    }
    let long = "#".repeat(MAX_FILE + 1);
    assert!(Policy::from_toml(&long).unwrap_err().to_string().contains("more than 262144 bytes"));
}

#[test]
fn the_digest_is_that_of_the_rules_and_not_of_the_text() {
    let digest = example().digest().to_string();
    assert_eq!(
        digest, "sha256:bdd4b28d20e35b10f5fc3a7ad182293ad83ba396dcfd566888e4c03980e49539",
        "it never changes for the same rules: control planes compare it"
    );
    let spaced = EXAMPLE.replace("[80, 443]", "[ 443, 80, 443 ] # the usual ones");
    assert_eq!(Policy::from_toml(&spaced).unwrap().digest().to_string(), digest);
    let other = EXAMPLE.replace("[80, 443]", "[80]");
    assert_ne!(Policy::from_toml(&other).unwrap().digest().to_string(), digest);
}

fn host() -> impl Strategy<Value = String> {
    let names = [
        "a.corp",
        "b.a.corp",
        "A.Corp.",
        "corp",
        "10.1.2.3",
        "::ffff:10.1.2.3",
        "fd00::1",
        "0x7f.1",
    ];
    select(names.map(String::from).to_vec())
}

fn path() -> impl Strategy<Value = String> {
    let parts =
        ["a", "A", "%61", "b", "..", ".", "%2e", "", "%2f", "a;x", "%252e", "é", "%C3%A9", " "];
    vec(select(parts.to_vec()), 0..5).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn address() -> impl Strategy<Value = Option<IpAddr>> {
    let addresses =
        ["10.1.2.3", "10.2.0.1", "::ffff:10.1.2.3", "fd00::1", "169.254.169.254", "8.8.8.8"];
    let addresses = addresses.map(|text| Some(text.parse().unwrap()));
    prop_oneof![Just(None), select(addresses.to_vec())]
}

fn rule() -> impl Strategy<Value = Rule> {
    let hosts =
        ["*", "a.corp", "*.corp", "10.0.0.0/8", "10.1.2.3", "fd00::/8", "::/0", "169.254.169.254"];
    let hosts = vec(select(hosts.to_vec()), 1..3);
    let ports = vec(select(vec!["80", "\"80-90\"", "443"]), 0..2);
    let paths = vec(select(vec!["/a", "/A/b", "/", "/%C3%A9"]), 0..2);
    let methods = vec(select(vec!["GET", "POST", "CONNECT"]), 0..2);
    (hosts, ports, paths, methods).prop_filter_map("no such rule", |(h, p, paths, methods)| {
        let list = |name: &str, list: Vec<String>| match list.is_empty() {
            true => String::new(),
            false => format!("{name} = [{}]\n", list.join(",")),
        };
        let quoted = |list: Vec<&str>| list.iter().map(|text| format!("{text:?}")).collect();
        let ports = p.into_iter().map(String::from).collect();
        let text = list("hosts", quoted(h))
            + &list("ports", ports)
            + &list("paths", quoted(paths))
            + &list("methods", quoted(methods));
        settings_file::read(&text, MAX_FILE).ok()
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    (vec(rule(), 0..4), vec(rule(), 0..3)).prop_map(|(allow, deny)| Policy { allow, deny })
}

fn request() -> impl Strategy<Value = (String, u16, Option<Method>, String)> {
    let method = select(vec![None, Some(Method::GET), Some(Method::POST), Some(Method::DELETE)]);
    (host(), select(vec![80, 85, 443, 22]), method, path())
}

fn ask(
    policy: &Policy,
    (host, port, method, path): &(String, u16, Option<Method>, String),
    address: Option<IpAddr>,
) -> Decision {
    let what = match method {
        Some(method) => What::Http { method, path },
        None => What::Tunnel,
    };
    policy.evaluate(&Request { host, port: *port, what }, address)
}

proptest! {
    #[test]
    fn deny_always_wins(policy in policy(), asked in request(), address in address()) {
        let denying = Policy { allow: policy.deny.clone(), deny: Vec::new() };
        let special = address.is_some_and(|address| special(address).is_some());
        if address.is_some() && !special && ask(&denying, &asked, address) == Decision::Allowed {
            prop_assert_ne!(ask(&policy, &asked, address), Decision::Allowed);
        }
    }

    #[test]
    fn one_more_denial_or_one_permission_less_only_narrows(
        policy in policy(), more in rule(), asked in request(), address in address()
    ) {
        let before = ask(&policy, &asked, address);
        let mut denying = policy.clone();
        denying.deny.push(more);
        let mut shorter = policy;
        shorter.allow.pop();
        for narrower in [denying, shorter] {
            if ask(&narrower, &asked, address) == Decision::Allowed {
                prop_assert_eq!(&before, &Decision::Allowed);
            }
        }
    }

    #[test]
    fn what_is_refused_without_an_address_is_refused_at_every_one(
        policy in policy(), asked in request(), address in address()
    ) {
        // A literal address is its own; it cannot be dialled at another.
        let is_name = matches!(Host::parse(&asked.0), Some(Host::Name(_)));
        if is_name && ask(&policy, &asked, address) == Decision::Allowed {
            prop_assert_eq!(ask(&policy, &asked, None), Decision::Allowed);
        }
    }

    #[test]
    fn the_normal_form_of_a_path_is_its_own(path in prop_oneof![path(), ".{0,20}"]) {
        if let Some(normal) = NormalPath::of(&path) {
            prop_assert_eq!(NormalPath::of(normal.as_str()), Some(normal));
        }
    }

    #[test]
    fn a_policy_survives_its_canonical_form(policy in policy()) {
        let json = serde_json::to_string(&policy).unwrap();
        let again: Policy = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(again.digest(), policy.digest());
        prop_assert_eq!(again, policy);
    }
}
