//! Every setting, as people write it and as they mistype it.

use clap::{Args as _, Command};
use protocol::{
    id::{KeyId, TunnelId},
    key::Seed,
};

use super::*;

fn tunnel_secret(seed: u8) -> String {
    let secret = TunnelSecret {
        tunnel: TunnelId::from_bytes([1; 16]),
        key: KeyId::from_bytes([2; 16]),
        seed: Seed::from_bytes([seed; 32]),
        edges: edges("eu=edge.example:7844").unwrap(),
        ca_pin: None,
    };
    secret.encode().to_string()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

fn text(path: &Path) -> Option<String> {
    Some(path.to_str().unwrap().to_owned())
}

fn load(options: &Options, variables: &[(&str, &str)]) -> Result<Config, String> {
    load_mounted(options, variables, Path::new("/no/such/file"))
}

fn load_mounted(
    options: &Options,
    variables: &[(&str, &str)],
    mounted: &Path,
) -> Result<Config, String> {
    let variables =
        variables.iter().map(|(name, value)| ((*name).into(), Zeroizing::new((*value).into())));
    Config::load_from(options, &variables.collect(), mounted).map_err(|error| {
        let text = error.to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    })
}

#[test]
fn workers_are_as_many_as_links_at_most() {
    let secret = tunnel_secret(7);
    let load = |workers: Option<&str>| {
        let options = Options { workers: workers.map(str::to_owned), ..Options::default() };
        load(&options, &[("TUNNEL_SECRET", &secret)]).map(|config| config.workers)
    };
    assert!((1..=4).contains(&load(None).unwrap()));
    assert_eq!([load(Some("1")), load(Some(" 4 "))], [Ok(1), Ok(4)]);
    for odd in ["0", "5", "-1", "two", "1.5"] {
        let error = load(Some(odd)).unwrap_err();
        assert!(error.contains("TUNNEL_WORKERS") && error.contains("from 1 to 4"), "{error}");
    }
}

#[test]
fn the_secret_comes_from_one_of_three_places() {
    let secret = format!("{}\n", tunnel_secret(7));
    let same = file(&secret);
    let other = file(&tunnel_secret(8));
    let none = Options::default();
    let by_file = Options { secret_file: text(same.path()), ..Options::default() };
    let by_other = Options { secret_file: text(other.path()), ..Options::default() };
    let variable = [("TUNNEL_SECRET", secret.as_str())];

    for found in [
        load(&none, &variable),
        load(&by_file, &[]),
        load_mounted(&none, &[], same.path()),
        load_mounted(&by_file, &variable, same.path()),
        load(&none, &[("TUNNEL_SECRET", &format!("  {secret}"))]),
    ] {
        assert_eq!(found.unwrap().secret.seed, Seed::from_bytes([7; 32]));
    }
    for doubtful in [
        load(&by_other, &variable),
        load_mounted(&none, &variable, other.path()),
        load_mounted(&by_file, &[], other.path()),
    ] {
        assert!(doubtful.unwrap_err().contains("different secrets"));
    }
    assert!(load(&none, &[]).unwrap_err().contains("TUNNEL_SECRET"));
    assert!(load(&none, &[("TUNNEL_SECRET", " ")]).unwrap_err().contains("no secret"));
    let lost = Options { secret_file: Some("/no/such/file".into()), ..Options::default() };
    assert!(load(&lost, &[]).unwrap_err().contains("/no/such/file"));
}

#[test]
fn what_is_not_set_or_empty_has_its_default() {
    let empty = Some(String::new());
    let empty = Options {
        metrics_port: empty.clone(),
        loglevel: empty.clone(),
        log_format: empty.clone(),
        transport_protocol: empty.clone(),
        region: empty.clone(),
        edge: empty.clone(),
        grace_period: empty.clone(),
        origin_ca_file: empty.clone(),
        policy_file: empty.clone(),
        origins_file: empty.clone(),
        secret_file: empty,
        reload: watch::Sender::default(),
        ..Options::default()
    };
    for options in [Options::default(), empty] {
        let config = load(&options, &[("TUNNEL_SECRET", &tunnel_secret(7))]).unwrap();
        assert_eq!(config.metrics_port, 9000);
        assert_eq!(config.transports, Transports::Auto);
        assert_eq!(config.grace_period, Duration::from_secs(30));
        assert_eq!((config.region, config.edges), (None, vec![]));
        assert_eq!(options.logging().unwrap(), (Level::default(), LogFormat::Json));
    }
}

#[test]
fn settings_read_as_people_write_them() {
    for (text, seconds) in [("30s", 30), ("2m", 120), ("1h", 3_600), ("45", 45), ("0", 0)] {
        assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
    }
    assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
    for text in ["", "s", "-1s", "1.5s", "1d", "2h", "99999999999999999999s"] {
        assert_eq!(duration(text), None, "{text}");
    }
    let named = edges("eu=a.example:7844, [::1]:443").unwrap();
    assert_eq!(named[0].region.as_str(), "eu");
    assert_eq!(named[1].address.to_string(), "[::1]:443");
    for text in [",", "a", "a:0", "EU=a:1", "a:1,,b:1", "=a:1"] {
        assert_eq!(edges(text), None, "{text}");
    }
}

#[test]
fn a_variable_that_nobody_reads_is_an_error() {
    for (variable, nearest) in [
        ("TUNNEL_SECRET_FIEL", "TUNNEL_SECRET_FILE"),
        ("TUNNEL_LOG_LEVEL", "TUNNEL_LOGLEVEL"),
        ("TUNNEL_METRICS", "TUNNEL_METRICS_PORT"),
        ("TUNNEL_PROTOCOL", "TUNNEL_TRANSPORT_PROTOCOL"),
        ("TUNNEL_EDGES", "TUNNEL_EDGE"),
    ] {
        let error = load(&Options::default(), &[(variable, "")]).unwrap_err();
        assert!(error.contains(variable) && error.contains(nearest), "{error}");
    }
    let secret = tunnel_secret(7);
    assert!(load(&Options::default(), &[("TUNNEL_SECRET", &secret)]).is_ok());
}

#[test]
fn quic_is_not_to_be_had_through_a_proxy() {
    let quic = Options { transport_protocol: Some("quic".into()), ..Options::default() };
    let secret = tunnel_secret(7);
    let proxied = [("TUNNEL_SECRET", secret.as_str()), ("https_proxy", "http://u:hush@proxy:3128")];
    let error = load(&quic, &proxied).unwrap_err();
    assert!(error.contains("https_proxy") && error.contains("NO_PROXY"), "{error}");
    assert!(!error.contains("hush"), "{error}");
    assert!(load(&Options::default(), &proxied).is_ok());
    let exempt = [&proxied[..], &[("no_proxy", "edge.example")]].concat();
    assert!(load(&quic, &exempt).is_ok());
}

#[test]
fn every_option_is_a_known_variable() {
    let command = Options::augment_args(Command::new("test"));
    let mut read: Vec<String> = command
        .get_arguments()
        .map(|argument| argument.get_env().unwrap().to_str().unwrap().to_owned())
        .collect();
    read.push("TUNNEL_SECRET".into());
    read.sort();
    let mut known = KNOWN.to_vec();
    known.sort_unstable();
    assert_eq!(read, known);
}

#[test]
fn a_certificate_file_must_hold_one() {
    for content in ["nonsense", ""] {
        let file = file(content);
        let options = Options { origin_ca_file: text(file.path()), ..Options::default() };
        assert!(load(&options, &[]).unwrap_err().contains("no certificate"));
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new([]).unwrap().self_signed(&key).unwrap();
    let file = file(&certificate.pem());
    let options = Options { origin_ca_file: text(file.path()), ..Options::default() };
    let secret = tunnel_secret(7);
    let config = load(&options, &[("TUNNEL_SECRET", &secret)]).unwrap();
    assert_eq!(config.origin_authorities.len(), 1);
    assert!(!format!("{config:?}").contains(&secret));
}
