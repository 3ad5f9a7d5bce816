//! Plausible mistakes of administrators, one by one: each is told by `check`, on its line, with a better text.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// A gateway without mistakes.
const GOOD: &str = r#"
[[listener]]
address = "[::]:8443"

[[issuer]]
name = "corp"
oidc = "https://idp.example.com"
audience = ["staunch"]
groups_claim = "groups"

[secrets]
model-key = "file:model.key"

[[route]]
name = "model"
sni = "model.gw.example.com"
protocol = "http"
upstream = { address = "tls://api.example.com:443", ca = "ca.pem" }
certificate = { chain = "gateway.pem", key = "gateway.key" }
allow = [{ issuer = "corp", groups = ["ml"] }]
inject = { header = "authorization", value = "Bearer {secret:model-key}" }

[[route]]
name = "machines"
sni = "machines.gw.example.com"
protocol = "raw"
upstream = { address = "tls://jobs.example.com:443", ca = "ca.pem" }
certificate = { chain = "gateway.pem", key = "gateway.key" }
client_certificates = "required"
client_ca = "ca.pem"
certificate_identity = { name = "machines", subject = ["uri", "dns"], groups = [
    { uri = "spiffe://example.com/ci/*", groups = ["ci"] },
] }
allow = [{ issuer = "machines", groups = ["ci"] }]

[admin]
address = "127.0.0.1:9901"
"#;

/// A folder with what the good one names.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["*.gw.example.com".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    write("ca.pem", &ca.pem());
    write("public.pem", &ca.pem().repeat(40));
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    write("old.pem", &CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap().pem());
    write("gateway.pem", &leaf.pem());
    write("gateway.key", &key.serialize_pem());
    write("model.key", "canary-4711\n");
    folder
}

/// All that `check` says of a text, faults or warnings, as `line: text`.
fn told(folder: &Path, text: &str) -> Vec<String> {
    let path = folder.join("gateway.toml");
    fs::write(&path, text).unwrap();
    let said = match staunch::config::load(&path) {
        Ok(loaded) => loaded.warnings.list,
        Err(faults) => faults.list,
    };
    said.iter().map(|one| format!("{}: {}", one.line, one.text)).collect()
}

fn line_of(text: &str, marker: &str) -> usize {
    let at = text.find(marker).unwrap_or_else(|| panic!("{marker}"));
    1 + text[..at].matches('\n').count()
}

/// What is changed, into what, and what is said on the line where the new text ends.
const MISTAKES: &[(&str, &str, &str)] = &[
    // Who is let in.
    (RULE, r#"{ issuer = "corp", groups = ["*"] }"#, "\"*\" in groups is compared as it stands"),
    (RULE, r#"{ issuer = "corp", groups = ["ml-*"] }"#, "\"ml-*\" in groups is compared as it stands"),
    (RULE, r#"{ issuer = "corp", groups = [""] }"#, "groups names \"\", which nobody has"),
    (RULE, r#"{ issuer = "corp", groups = [] }"#, "groups is empty"),
    (RULE, r#"{ issuer = "corp", groups = [" ml"] }"#, "write \"ml\""),
    (RULE, r#"{ issuer = "corp", groups = ["^ml$"] }"#, "compared as it stands, not as a pattern"),
    (RULE, r#"{ issuer = "corp", groups = ["(?i)ml"] }"#, "compared as it stands, not as a pattern"),
    (RULE, r#"{ issuer = "corp", groups = ["team-[0-9]+"] }"#, "compared as it stands, not as a pattern"),
    (RULE, r#"{ issuer = "corp", subjects = ["ann.+"] }"#, "compared as it stands, not as a pattern"),
    (RULE, r#"{ issuer = "corp", subjects = ["*"] }"#, "\"*\" in subjects is compared as it stands"),
    (RULE, r#"{ issuer = "corp", subjects = [""] }"#, "subjects names \"\""),
    (RULE, r#"{ issuer = "corp", claims = { dept = "*" } }"#, "\"*\" in dept is compared as it stands"),
    (RULE, r#"{ issuer = "corp", claims = { dept = "" } }"#, "dept names \"\""),
    (RULE, r#"{ issuer = "corp", claims = { email = "a@b.example" } }"#, "email_verified"),
    (
        RULE,
        r#"{ issuer = "corp", claims = { preferred_username = "ann" } }"#,
        "what people choose or change themselves",
    ),
    (
        RULE,
        r#"{ issuer = "corp", claims = { upn = "ann@b.example" } }"#,
        "what people choose or change themselves",
    ),
    (RULE, r#"{ issuer = "corp", claims = { name = "Ann" } }"#, "what people choose or change themselves"),
    // Whom the gateway believes.
    (AUDIENCE, r#"audience = ["account"]"#, "Keycloak gives to nearly every token"),
    (AUDIENCE, r#"audience = ["*"]"#, "\"*\" in audience is compared as it stands"),
    (AUDIENCE, r#"audience = ["staunch "]"#, "write \"staunch\""),
    (AUDIENCE, r#"audience = ["staunch", "staunch"]"#, "named twice"),
    (AUDIENCE, r#"audience = []"#, "audience"),
    (AUDIENCE, "audience = [\"staunch\"]\nazp = [\"*\"]", "\"*\" in azp"),
    (GROUPS, r#"groups_claim = """#, "groups_claim is empty, so nobody has groups"),
    (GROUPS, r#"groups_claim = "email""#, "groups_claim is \"email\", which people choose"),
    (GROUPS, r#"groups_claim = "preferred_username""#, "which people choose or change themselves"),
    ("https://idp.example.com", "https://idp.example.com/", "this issuer ends with a `/`"),
    ("https://idp.example.com", "http://idp.example.com", "https"),
    (
        "https://idp.example.com",
        "https://idp.example.com/.well-known/openid-configuration",
        "write the issuer",
    ),
    // Addresses that clients claim.
    (
        LISTENER,
        "address = \"[::]:8443\"\nproxy_protocol_from = [\"0.0.0.0/0\"]",
        "0.0.0.0/0 is nearly everybody",
    ),
    (LISTENER, "address = \"[::]:8443\"\nproxy_protocol_from = [\"::/0\"]", "::/0 is nearly everybody"),
    (
        LISTENER,
        "address = \"[::]:8443\"\nproxy_protocol_from = [\"128.0.0.0/1\"]",
        "128.0.0.0/1 is nearly everybody",
    ),
    (
        LISTENER,
        "address = \"[::]:8443\"\nproxy_protocol_from = [\"2000::/3\"]",
        "2000::/3 is nearly everybody",
    ),
    (
        LISTENER,
        "address = \"[::]:8443\"\nproxy_protocol_from = [\"2000::/16\"]",
        "2000::/16 is nearly everybody",
    ),
    (
        LISTENER,
        "address = \"[::]:8443\"\nproxy_protocol_from = [\"::ffff:0.0.0.0/96\"]",
        "is nearly everybody",
    ),
    // Client certificates.
    (
        "protocol = \"http\"",
        "protocol = \"http\"\nclient_ca = \"ca.pem\"\nclient_certificates = \"optional\"",
        "clients come in without a certificate, too",
    ),
    (PATTERN, r#"uri = "*example.com/ci""#, "\"*example.com/ci\""),
    (PATTERN, r#"uri = "spiffe://example.com/ci*""#, "\"spiffe://example.com/ci*\""),
    (PATTERN, r#"uri = "spiffe://example.com/ci/../prod""#, "/ci/../prod"),
    (PATTERN, r#"uri = "spiffe://example.com/ci/%2e%2e/prod""#, "as certificates have it"),
    (PATTERN, r#"dns = "*.com""#, "everybody below that ending"),
    (PATTERN, r#"dns = "spiffe://example.com/ci""#, "is no DNS name"),
    (PATTERN, r#"dns = "*""#, "fits every certificate"),
    (PATTERN, r#"uri = "*""#, "fits every certificate"),
    // Where a route leads.
    ("tls://api.example.com:443", "tls://127.0.0.1:8443", "a listener of the gateway's own"),
    ("tls://api.example.com:443", "tls://localhost:9901", "the operator's listener"),
    ("tls://api.example.com:443", "tls://api.example.com:80", "port 80 hardly speaks TLS"),
    ("tls://api.example.com:443", "tls://svc:hunter2@api.example.com:443", "no password in its address"),
    // The stored credential.
    (STORED, r#""Bearer sk-live-1""#, "a secret stands here itself"),
    (STORED, r#""{secret:model-key}""#, "authorization has a scheme before the secret"),
    (STORED, r#""Bearer {secret:model_key}""#, "there is no secret of the name"),
    (HEADER, r#"header = "x-api-key", value = "hunter2""#, "a secret stands here itself"),
    (HEADER, r#"header = "api-token", value = "hunter2""#, "a secret stands here itself"),
    (HEADER, r#"header = "x-tenant", value = "ghp_0123456789""#, "a secret stands here itself"),
    // What lasts too long, or has no limit.
    (ADMIN, "[limits]\npermit_deadline = \"10m\"\n[admin]", "whoever connects"),
    (STORED_LINE, "{secret:model-key}\" }\non_expiry = \"grace 24h\"", "whose token has expired"),
    // What no service takes.
    (
        STORED,
        r#""Bearer Bearer {secret:model-key}""#,
        "a scheme such as Bearer stands before the secret and in it",
    ),
    (STORED, r#""Basic svc:{secret:model-key}""#, "Basic takes base64"),
    (HEADER, r#"header = "x-api-key", value = "Bearer {secret:model-key}""#, "takes the key alone"),
    // Times and numbers that nobody means.
    (STORED_LINE, "{secret:model-key}\" }\ntimeouts = { idle = \"5ms\" }", "seconds are meant"),
    (STORED_LINE, "{secret:model-key}\" }\ntimeouts = { stall = \"10ms\" }", "seconds are meant"),
    (STORED_LINE, "{secret:model-key}\" }\ntimeouts = { response = \"999ms\" }", "seconds are meant"),
    (STORED_LINE, "{secret:model-key}\" }\ntimeouts = { connect = \"10m\" }", "the upstream is away"),
    (ADMIN, "[limits]\npermit_deadline = \"100ms\"\n[admin]", "seconds are meant"),
    (ADMIN, "[limits]\ndrain = \"10h\"\n[admin]", "service managers kill before"),
    // Whose tokens, and whose word.
    (AUDIENCE, r#"audience = ["sts.amazonaws.com"]"#, "made for AWS"),
    (AUDIENCE, r#"audience = ["https://kubernetes.default.svc/"]"#, "made for the Kubernetes API"),
    (AUDIENCE, r#"audience = ["00000003-0000-0000-c000-000000000000"]"#, "made for Microsoft Graph"),
    (
        AUDIENCE,
        "audience = [\"staunch\"]\njwks_hosts = [\"*.example.com\"]",
        "in jwks_hosts is compared as it stands",
    ),
    (GROUPS, r#"groups_claim = "scope""#, "what it asked for"),
    (GROUPS, r#"groups_claim = "sub""#, "which is the person"),
    (GROUPS, r#"groups_claim = "azp""#, "which is the client program"),
    (RULE, r#"{ issuer = "corp", claims = { scope = "admin" } }"#, "scope is one text"),
    (
        RULE,
        r#"{ issuer = "corp", claims = { email = "a@b.example", email_verified = "false" } }"#,
        "lets in whoever wrote any address",
    ),
    (
        "client_certificates = \"required\"\nclient_ca = \"ca.pem\"",
        "client_certificates = \"required\"\nclient_ca = \"public.pem\"",
        "as collections of public ones do",
    ),
    (
        "client_certificates = \"required\"\nclient_ca = \"ca.pem\"",
        "client_certificates = \"required\"\nclient_ca = \"gateway.pem\"",
        "no authority's",
    ),
    (
        "client_certificates = \"required\"\nclient_ca = \"ca.pem\"",
        "client_certificates = \"required\"\nclient_ca = \"old.pem\"",
        "an authority that has expired",
    ),
    // Ports.
    (LISTENER, "address = \"[::]:80\"", "clients speak plain HTTP at port 80"),
    ("tls://api.example.com:443", "tls://api.example.com:8080", "port 8080 hardly speaks TLS"),
    ("tls://api.example.com:443", "tls://api.example.com:11434", "port 11434 hardly speaks TLS"),
    // The operator.
    (
        ADMIN_ADDRESS,
        "address = \"127.0.0.1:9901\"\nloopback = \"anyone\"",
        "every account and every program of this machine",
    ),
    (ADMIN_ADDRESS, "address = \"0.0.0.0:9901\"", "loopback address"),
    (
        ADMIN_ADDRESS,
        "address = \"127.0.0.1:9901\"\noperate = [{ issuer = \"corp\", groups = [\"*\"] }]",
        "\"*\" in groups",
    ),
    (
        ADMIN_ADDRESS,
        "address = \"127.0.0.1:9901\"\nview = [{ issuer = \"corp\", subjects = [\"^a\"] }]",
        "\"^a\" in subjects",
    ),
];

const RULE: &str = r#"{ issuer = "corp", groups = ["ml"] }"#;
const AUDIENCE: &str = r#"audience = ["staunch"]"#;
const GROUPS: &str = r#"groups_claim = "groups""#;
const LISTENER: &str = r#"address = "[::]:8443""#;
const PATTERN: &str = r#"uri = "spiffe://example.com/ci/*""#;
const STORED: &str = r#""Bearer {secret:model-key}""#;
const STORED_LINE: &str = "{secret:model-key}\" }";
const HEADER: &str = r#"header = "authorization", value = "Bearer {secret:model-key}""#;
const ADMIN: &str = "[admin]";
const ADMIN_ADDRESS: &str = r#"address = "127.0.0.1:9901""#;

#[test]
fn each_is_told_once_on_its_line() {
    let folder = folder();
    assert_eq!(told(folder.path(), GOOD), Vec::<String>::new());
    let mut silent = Vec::new();
    for (from, to, words) in MISTAKES {
        assert_eq!(GOOD.matches(from).count(), 1, "{from}");
        let mut text = GOOD.replace(from, to);
        if !text.contains("{secret:model-key}") {
            text = text.replace("[secrets]\nmodel-key = \"file:model.key\"\n", "");
        }
        let said = told(folder.path(), &text);
        // The last line of what was written, or the only one.
        let mut line = line_of(&text, to) + to.trim_end_matches("\n[admin]").matches('\n').count();
        if to.starts_with("[limits]") {
            line = line_of(&text, to) + 1;
        }
        let is_near = |one: &String| {
            let told: usize = one.split(':').next().unwrap().parse().unwrap();
            // Of an issuer as a whole, the place of its table is told.
            told == line || to.contains("azp") && told < line || to.contains("groups_claim") && told < line
        };
        let good = said.iter().any(|one| one.contains(words) && is_near(one)) && said.len() <= 2;
        if !good {
            silent.push(format!("{to} (line {line}): {said:?}"));
        }
        assert!(!said.iter().any(|one| one.contains("hunter2") || one.contains("canary")), "{said:?}");
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn public_issuers_are_told_unless_a_rule_says_whose_tokens_are_meant() {
    let folder = folder();
    for (url, narrow) in [
        ("https://token.actions.githubusercontent.com", "repository_owner"),
        ("https://accounts.google.com", "hd"),
        ("https://gitlab.com", "namespace_path"),
        ("https://agent.buildkite.com", "organization_slug"),
        ("https://login.microsoftonline.com/common/v2.0", "tid"),
        ("https://oauth2.sigstore.dev/auth", "sub_domain"),
        ("https://oidc.vercel.com", "owner_id"),
        ("https://huggingface.co", "org"),
        ("https://cognito-identity.amazonaws.com", "pool"),
    ] {
        let with = |rule: &str| {
            let text = GOOD.replace("https://idp.example.com", url);
            told(folder.path(), &text.replace(RULE, &format!("{{ issuer = \"corp\"{rule} }}")))
        };
        for open in [
            "",
            ", claims = { ref = \"refs/heads/main\" }",
            ", claims = { environment = \"prod\", event_name = \"push\" }",
        ] {
            let said = with(open);
            assert!(said.len() == 1 && said[0].contains("everybody in the world"), "{url}{open}: {said:?}");
        }
        let said = with(&format!(", claims = {{ {narrow} = \"acme\", ref = \"refs/heads/main\" }}"));
        assert!(said.is_empty(), "{url}: {said:?}");
        assert!(with(", subjects = [\"repo:acme/app:ref:refs/heads/main\"]").is_empty(), "{url}");
        let operators = GOOD.replace("https://idp.example.com", url) + "operate = [{ issuer = \"corp\" }]\n";
        let said = told(folder.path(), &operators);
        assert!(said.iter().any(|one| one.contains("this lets in everybody")), "{url}: {said:?}");
    }
}

#[test]
fn two_settings_that_are_a_mistake_together_are_told() {
    let folder = folder();
    let second = r#"
[[route]]
name = "other"
sni = "other.gw.example.com"
protocol = "http"
upstream = { address = "tls://api.example.com:443", ca = "ca.pem" }
certificate = { chain = "gateway.pem", key = "gateway.key" }
allow = [{ issuer = "corp", groups = ["ml"] }]
"#;
    let keep = GOOD.replacen("protocol = \"http\"", "protocol = \"http\"\nhost = \"keep\"", 1);
    let local = GOOD.replace(LISTENER, "address = \"127.0.0.1:8443\"");
    let database = |user: &str| {
        let route =
            second.replace("\"http\"", "\"postgres\"").replace("api.example.com:443", "pg.example.com:5432");
        format!("{GOOD}{route}inject = {{ user = \"{user}\", password = \"{{secret:model-key}}\" }}\n")
    };
    let tunnel = "\n[[listener]]\naddress = \"[::]:9443\"\ntunnel = { sni = \"tunnel.gw.example.com\", certificate = { chain = \
                  \"gateway.pem\", key = \"gateway.key\" } }\n";
    let limits = |text: &str| GOOD.replace(ADMIN, &format!("[limits]\n{text}\n{ADMIN}"));
    let trap = "[[honeytoken]]\nname = \"trap\"\nsubject = \"ann\"\n[admin]";
    for (text, words) in [
        (format!("{keep}{second}"), "clients choose its virtual host"),
        (keep.replace("host = \"keep\"", "host = \"keep\"\nhosts = \"any\""), "reach every virtual host"),
        (format!("{local}{tunnel}"), "leads to every route"),
        (limits("half_open_per_address = 0"), "one client can hold every place"),
        (database("postgres"), "may do everything at most servers"),
        (database("ROOT"), "all whom this route permits share it"),
        (database("doadmin"), "all whom this route permits share it"),
        (
            format!("{}require_auth = \"scram-sha-256, none\"\n", database("svc_ro")),
            "without asking for a proof",
        ),
        (
            format!("{GOOD}{}", second.replace("api.example.com:443", "pg.example.com:5432")),
            "nearly always speaks postgres",
        ),
        (limits("half_open = 0"), "some clients can hold every place"),
        (format!("{GOOD}[[listener]]\naddress = \"0.0.0.0:8443\"\n"), "one port of the same addresses"),
        (format!("{GOOD}[[listener]]\naddress = \"127.0.0.1:8443\"\n"), "one port of the same addresses"),
        (GOOD.replace("127.0.0.1:9901", "[::1]:8443"), "is that of listener [::]:8443"),
        (format!("{GOOD}[acme]\nhttp = \"0.0.0.0:8443\"\n"), "is listened on already, as [::]:8443"),
        (limits("permit_deadline = \"10m\""), "whoever connects may keep a place"),
        (
            GOOD.replace(RULE, r#"{ issuer = "corp", subjects = ["ann"] }"#).replace(ADMIN, trap),
            "whose every use is an alarm",
        ),
        (GOOD.replace(AUDIENCE, r#"audience = ["staunch", "api"]"#), "name the one that is meant"),
    ] {
        let said = told(folder.path(), &text);
        assert!(said.iter().any(|one| one.contains(words)), "{words}: {said:?}");
    }
    assert!(told(folder.path(), &database("svc_ro")).is_empty());
    assert!(told(folder.path(), &keep).is_empty(), "alone it is none");
    assert!(told(folder.path(), &GOOD.replace(ADMIN, trap)).is_empty(), "nobody is permitted by that name");
}

#[test]
fn secrets_that_are_none_are_told_and_never_repeated() {
    let folder = folder();
    for (secret, words) in [
        ("Bearer canary", "a scheme such as Bearer stands before the secret and in it"),
        ("OPENAI_API_KEY=canary", "a line of an environment file"),
        ("\"canary\"", "quotes stand around the secret"),
        ("'canary'", "quotes stand around the secret"),
        ("changeme", "what examples have in its place"),
        ("<your canary>", "what examples have in its place"),
    ] {
        fs::write(folder.path().join("model.key"), format!("{secret}\n")).unwrap();
        let said = told(folder.path(), GOOD);
        assert!(said.len() == 1 && said[0].contains(words), "{secret}: {said:?}");
        assert!(!said[0].contains("canary") && !said[0].contains("changeme"), "{said:?}");
    }
    for good in ["sk-canary==", "a=b", "AbC=1", "it's", "tokens:of-many=words"] {
        fs::write(folder.path().join("model.key"), good).unwrap();
        assert_eq!(told(folder.path(), GOOD), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn files_that_others_can_change_are_told() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let open =
        |name: &str, mode: u32| fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    assert!(told(folder.path(), GOOD).is_empty());
    for name in ["ca.pem", "gateway.pem"] {
        open(name, 0o646);
        let said = told(folder.path(), GOOD);
        assert!(
            said.iter().all(|one| one.contains(name) && one.contains("whom the gateway believes")),
            "{said:?}"
        );
        assert!(!said.is_empty());
        open(name, 0o644);
    }
    open("gateway.toml", 0o666);
    let said = told(folder.path(), GOOD);
    assert!(
        said.len() == 1 && said[0].contains("every account of this machine can change this file"),
        "{said:?}"
    );
    open("gateway.toml", 0o644);
    open("gateway.key", 0o646);
    assert!(told(folder.path(), GOOD).iter().any(|one| one.contains("chmod 600")));
    open("gateway.key", 0o600);
    fs::create_dir(at("shared")).unwrap();
    open("shared", 0o1777);
    let said = told(folder.path(), &format!("{GOOD}revocations = \"shared/revoked.json\"\n"));
    assert!(said.len() == 1 && said[0].contains("a directory of the gateway's own"), "{said:?}");
}

#[test]
fn strict_makes_them_faults() {
    let folder = folder();
    let path = folder.path().join("gateway.toml");
    let check = |text: &str, strict: bool| {
        fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_staunch"));
        command.args(["check", "--config"]).arg(&path);
        if strict {
            command.arg("--strict");
        }
        let done = command.output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let bad = GOOD.replace(RULE, r#"{ issuer = "corp", groups = ["*"] }"#);
    assert_eq!(check(GOOD, true).0, Some(0));
    assert_eq!(check(&bad, false).0, Some(0));
    let (code, said) = check(&bad, true);
    assert_eq!(code, Some(1));
    let place = format!("gateway.toml:{}", line_of(&bad, "[\"*\"]"));
    assert!(said.contains(&place) && said.contains("--strict"), "{said}");
}

#[test]
fn what_stands_behind_a_reference_is_never_repeated() {
    let folder = folder();
    for reference in
        ["env:hunter2", "file:hunter2", "credential:hunter2", "hunter2", "vault:hunter2", "file://hunter2"]
    {
        let said = told(folder.path(), &GOOD.replace("file:model.key", reference));
        assert!(!said.is_empty() && !said.iter().any(|one| one.contains("hunter2")), "{reference}: {said:?}");
        for key in [
            "key",
            "login = { issuer = \"corp\", client_id = \"a\", url = \"https://a.example\", client_secret",
        ] {
            let end = if key == "key" { "" } else { " }" };
            let said = told(folder.path(), &format!("{GOOD}{key} = \"{reference}\"{end}\n"));
            assert!(
                !said.is_empty() && !said.iter().any(|one| one.contains("hunter2")),
                "{reference}: {said:?}"
            );
        }
    }
}
