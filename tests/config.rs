//! Configurations: the examples load, and what is wrong is found with its line.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder with the certificates, keys and secrets that the examples name.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("certs")).unwrap();
    fs::create_dir(at("secrets")).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    for name in ["certs/internal-ca.pem", "certs/machines-ca.pem"] {
        fs::write(at(name), ca.pem()).unwrap();
    }
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2126, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    fs::write(at("certs/machines.crl"), list.signed_by(&ca).unwrap().pem().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf =
        CertificateParams::new(vec!["*.gw.example.com".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    fs::write(at("certs/gateway.pem"), leaf.pem()).unwrap();
    private(&at("certs/gateway.key"), &key.serialize_pem());
    private(&at("certs/other.key"), &KeyPair::generate().unwrap().serialize_pem());
    private(&at("secrets/openai.key"), "sk-canary-4711\n");
    private(&at("secrets/jupyter.token"), "canary-0815\n");
    private(&at("secrets/pg-ro.password"), "canary-ro\n");
    private(&at("secrets/pg-rw.password"), "canary-rw\n");
    private(&at("secrets/shop-ro.password"), "canary-ro\n");
    private(&at("secrets/shop-rw.password"), "canary-rw\n");
    private(&at("secrets/admin.key"), "canary-admin-0123456789\n");
    private(&at("secrets/push.key"), "canary-push-0123456789\n");
    private(&at("secrets/otlp.key"), "canary-otlp-0123456789\n");
    private(&at("secrets/operators.secret"), "canary-operators-0123456789\n");
    private(&at("secrets/poll.key"), "canary-poll-0123456789\n");
    private(&at("secrets/eab.key"), "Y2FuYXJ5LWVhYi1rZXk\n");
    private(&at("secrets/redis-app.password"), "canary-app\n");
    private(&at("secrets/redis-read.password"), "canary-read\n");
    folder
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn examples() -> Vec<PathBuf> {
    let files = fs::read_dir(root().join("config")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect()
}

#[test]
fn every_example_loads_and_has_a_guide() {
    let folder = folder();
    assert!(examples().len() >= 5);
    for example in examples() {
        let copy = folder.path().join(example.file_name().unwrap());
        fs::copy(&example, &copy).unwrap();
        match staunch::config::load(&copy) {
            Ok(loaded) => {
                let shown = format!("{}{:?}", loaded.summary, loaded.summary);
                assert!(!shown.contains("canary"), "a secret is shown");
            }
            Err(faults) => panic!("{faults}"),
        }
        assert!(example.with_extension("md").exists(), "{} has no guide", example.display());
    }
}

/// Loads masking.toml with one line replaced, and returns the faults.
fn mask_faults(from: &str, to: &str) -> String {
    faults_of("masking.toml", from, to).join("\n")
}

#[test]
fn masks_that_cannot_be_held_or_that_nobody_uses_are_refused() {
    let table = [
        (r#"["personal"]"#, r#"["personel"]"#, "\"personel\" is none of personal, keys, card"),
        (r#"["personal"]"#, "[]", "detect is empty"),
        (r#"follows = "[0-9]{4,8}""#, r#"follows = "[0-9]+""#, "has no bound"),
        (r#"follows = "[0-9]{4,8}""#, r#"follows = "[0-9]{0,8}""#, "matches the empty text"),
        (r#"follows = "[0-9]{4,8}""#, r#"follows = "[0-9""#, "unclosed character class"),
        (r#"anchor = "ACME-""#, r#"anchor = "A""#, "an anchor has 2 to 32 bytes"),
        (r#"name = "ticket""#, r#"name = "card""#, "is no name for a pattern"),
        (r#"up = ["house"]"#, r#"up = ["horse"]"#, "there is no [[mask]] called \"horse\""),
        (r#"down = ["people", "house"]"#, r#"down = ["house"]"#, "mask `people` is used by no route"),
        (r#"hold_time = "5s""#, r#"hold_time = "5m""#, "hold_time is at most 60s"),
        (r#"protocol = "http""#, r#"protocol = "raw""#, "mask is for routes of other protocols than raw"),
        (r#"on_hold_limit = "mask""#, r#"on_hold_limit = "drop""#, "is none of \"mask\", \"pass\""),
        (r#"down = ["people", "house"], up = ["house"], "#, "", "mask names no rules"),
    ];
    for (from, to, expected) in table {
        let found = mask_faults(from, to);
        assert!(found.contains(expected), "{from} -> {to}: {found}");
    }
}

#[test]
fn check_prints_what_may_pass_before_each_hold_point() {
    let folder = folder();
    let copy = folder.path().join("masking.toml");
    fs::copy(root().join("config/masking.toml"), &copy).unwrap();
    let shown = staunch::config::load(&copy).unwrap().summary.to_string();
    for expected in [
        "masks       what goes down; holds for 64 events, 5s, then masks",
        "card             may pass: its first six digits; its last four are shown; does not find: numbers without Luhn",
        "ticket           may pass: its anchor \"ACME-\"",
        "members-house    may pass: nothing; does not find: members of anything but JSON",
        "own-credential   may pass: its first 3 bytes",
        "not looked at: heads",
    ] {
        assert!(shown.contains(expected), "{expected:?} is not in\n{shown}");
    }
}

#[test]
fn the_schema_for_editors_is_current() {
    let written = fs::read_to_string(root().join("config/staunch.schema.json")).unwrap();
    let current = format!("{:#}\n", staunch::config::schema());
    assert!(written == current, "run: staunch schema > config/staunch.schema.json");
}

/// Loads openai.toml with one line replaced, and returns the faults as `line: text`.
fn faults(from: &str, to: &str) -> Vec<String> {
    faults_of("openai.toml", from, to)
}

fn faults_of(example: &str, from: &str, to: &str) -> Vec<String> {
    let folder = folder();
    let text = fs::read_to_string(root().join("config").join(example)).unwrap();
    assert!(text.contains(from), "{from}");
    let path = folder.path().join("staunch.toml");
    fs::write(&path, text.replace(from, to)).unwrap();
    match staunch::config::load(&path) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.list.iter().map(|fault| format!("{}: {}", fault.line, fault.text)).collect(),
    }
}

#[test]
fn what_is_wrong_is_found_with_its_line_and_with_advice() {
    let rule = r#"{ issuer = "corp", groups = ["ml", "agents"] }"#;
    let table: &[(&str, &str, &str)] = &[
        (r#"address = "[::]:8443""#, r#"address = "nowhere""#, "4: \"nowhere\" is no address with a port"),
        (
            r#"address = "[::]:8443""#,
            r#"addres = "[::]:8443""#,
            "4: unknown key `addres`; the nearest key is `address`",
        ),
        ("https://idp", "http://idp", "8: issuer `corp`: \"http://idp.example.com\" is no https URL"),
        (r#"audience = ["staunch"]"#, "audience = []", "9: issuer `corp`: has no audience"),
        (rule, "", "15: nobody may use route `openai`"),
        (rule, r#"{ issuer = "corp", groups = [] }"#, "21: groups is empty"),
        (rule, r#"{ issuer = "corp", subjects = [] }"#, "21: subjects is empty"),
        (rule, r#"{ issuer = "corp", claims = {} }"#, "21: claims is empty"),
        (rule, r#"{ issuer = "corp", claims = { roles = [] } }"#, "21: claim roles has no value here"),
        (
            rule,
            r#"{ issuer = "corp", audience = ["payroll"] }"#,
            "21: \"payroll\" is none of the audiences of issuer `corp`, so no token could fit; write one of staunch",
        ),
        (rule, r#"{ issuer = "corp", audience = [] }"#, "21: audience is empty"),
        (
            r#"protocol = "http""#,
            "protocol = \"http\"\naudience = [\"api\"]",
            "19: \"api\" is none of the audiences of issuer `corp`",
        ),
        (
            "https://idp.example.com",
            "https://idp.example.com/.well-known/openid-configuration",
            "write the issuer: \"https://idp.example.com\"",
        ),
        (r#""file:secrets/openai.key""#, "4711", "13: a number stands here; write a text in quotes"),
        (rule, r#"{ issuer = "other" }"#, "21: `other` is no issuer"),
        (rule, &format!(r#"{{ issuer = "corp" }}, {rule}"#), "21: rule 1 of this list permits all"),
        ("{secret:openai-key}", "{secret:missing}", "22: there is no secret of the name that stands here"),
        ("{secret:openai-key}", "plain", "13: secret `openai-key` is used nowhere"),
        ("file:secrets/openai.key", "sk-live-77", "13: a secret is named by where it stands"),
        ("file:secrets/openai.key", "file:secrets/none", "No such file"),
        (r#"header = "authorization""#, r#"header = "content-length""#, "22: content-length frames messages"),
        (r#"header = "authorization""#, r#"header = "x-forwarded-proto""#, "is set by the gateway"),
        ("tls://api", "https://api", "19: \"https://api.openai.com:443\" is no upstream"),
        ("tls://api.openai.com:443", r"tls://a\r\nx: y:443", "is neither a DNS name nor an address"),
        ("gateway.key", "other.key", "is not the key of"),
        ("openai.gw.example.com", "openai.example.org", "is not good for openai.example.org"),
        (r#"on_expiry = "drain""#, r#"on_expiry = "sometimes""#, "23: \"sometimes\" is no way to end"),
        (r#"idle = "30m""#, r#"idle = "30""#, "25: \"30\" is no duration"),
        ("dial_ahead = 2", "dial_ahead = 65", "24: dial_ahead is at most 64"),
        ("dial_ahead = 2", "dial_ahead = 256", "24: this number is out of range; write 0 to 255"),
        (
            r#"protocol = "http""#,
            r#"protocol = "raw""#,
            "18: a raw route knows clients by certificate or tunnel only",
        ),
        (r#"name = "openai""#, r#"name = "open ai""#, "is no route name"),
        (
            rule,
            &format!(r#"{rule}, {{ issuer = "corp" }}"#),
            "21: this rule permits all that rule 1 of this list does",
        ),
        (r#"audience = ["staunch"]"#, "audience = [\"staunch\"]\nazp = []", "10: azp is empty"),
        (r#"audience = ["staunch"]"#, "audience = [\"staunch\"]\nalgorithms = []", "10: algorithms is empty"),
        (
            r#"audience = ["staunch"]"#,
            "audience = [\"staunch\"]\nalgorithms = [\"none\"]",
            "10: only signatures with public keys",
        ),
        ("Bearer {secret:openai-key}", " Bearer {secret:openai-key}", "22: a header value holds no control"),
        (
            "openai.gw.example.com",
            "openai.gw.example.com..",
            "17: \"openai.gw.example.com..\" is no DNS name",
        ),
        (
            r#"address = "[::]:8443""#,
            "address = \"[::]:8443\"\nproxy_protocol_from = [\"10.1.2.3/8\"]",
            "5: \"10.1.2.3/8\" has bits behind its length; write \"10.0.0.0/8\" or \"10.1.2.3/32\"",
        ),
        (
            r#"address = "[::]:8443""#,
            "address = \"[::]:8443\"\nproxy_protocol_from = [\"fd00::1/8\"]",
            "write \"fd00::/8\" or \"fd00::1/128\"",
        ),
        ("8443", "9901", "admin's address 127.0.0.1:9901 is that of listener [::]:9901"),
        ("[limits]", "[admin]\naddress = \"127.0.0.1:8443\"\n[limits]", "28: admin's address 127.0.0.1:8443"),
        ("[limits]", "[limits]\nfields = 1000", "28: 1000 is out of range"),
        ("[limits]", "[admin]\naddress = \"0.0.0.0:1\"\n[limits]", "is not loopback"),
    ];
    for (from, to, expected) in table {
        let found = faults(from, to);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{to}: {expected}\nfound: {found:#?}");
        assert!(
            !found.join("").contains("4711")
                && !found.join("").contains("sk-live")
                && !found.join("").contains("canary"),
            "{to}: a secret is repeated"
        );
    }
}

#[test]
fn what_is_wrong_with_a_postgres_route_is_found_with_its_line_and_with_advice() {
    let (rw, ro) = (
        r#"{ user = "svc_rw", password = "{secret:pg-rw}", groups = ["dba"] },"#,
        r#"{ user = "svc_ro", password = "{secret:pg-ro}" },"#,
    );
    let header = r#"{ header = "authorization", value = "Bearer {secret:pg-ro}" },"#;
    let name = r#"name = "warehouse""#;
    let table: &[(&str, &str, &str)] = &[
        (ro, r#"{ password = "{secret:pg-ro}" },"#, "24: `user` is missing"),
        (ro, r#"{ user = "svc_ro" },"#, "24: `password` is missing; write password = \"{secret:NAME}\""),
        (ro, r#"{ user = "", password = "{secret:pg-ro}" },"#, "24: a user's name has 1 to 63 bytes"),
        (ro, r#"{ user = "svc_ro", password = "canary" },"#, "24: a password is named by where it stands"),
        (
            ro,
            r#"{ user = "svc_ro", password = "{secret:no}" },"#,
            "24: there is no secret of the name that stands here",
        ),
        (ro, header, "24: a postgres route has no headers; write user and password, not header"),
        (
            rw,
            r#"{ user = "svc_rw", password = "{secret:pg-rw}" },"#,
            "24: account 1 of this list is for everybody",
        ),
        (rw, r#"{ user = "svc_rw", password = "{secret:pg-rw}", groups = [] },"#, "23: groups is empty"),
        (
            rw,
            r#"{ user = "svc_rw", password = "{secret:pg-rw}", issuer = "corpse" },"#,
            "23: `corpse` stands in no rule of allow",
        ),
        (
            r#"allow = [{ issuer = "corp", groups = ["analytics", "dba"] }]"#,
            r#"allow = [{ issuer = "corp" }, { issuer = "partner" }]"#,
            "23: groups and subjects of several issuers would count here; write issuer",
        ),
        (
            name,
            "name = \"warehouse\"\ntoken_slots = [\"bearer\"]",
            "17: a postgres route takes the token from the password",
        ),
        (
            name,
            "name = \"warehouse\"\nstatements = \"63B\"",
            "17: \"63B\" is no limit of statements; write \"on\"",
        ),
        (name, "name = \"warehouse\"\nstatements = \"65KiB\"", "17: \"65KiB\" is no limit of statements"),
        (name, "name = \"warehouse\"\nstatements = \"yes\"", "17: \"yes\" is no limit of statements"),
        (name, "name = \"warehouse\"\nalpn = \"h2\"", "17: alpn has no effect on a postgres route"),
        (name, "name = \"warehouse\"\nhost = \"keep\"", "17: host has no effect on a postgres route"),
        (
            r#"idle = "1h""#,
            r#"between_requests = "1m""#,
            "30: between_requests has no effect on a postgres route",
        ),
        (r#""identity" "#, r#""me" "#, "26: \"me\" is none of \"identity\", \"client\""),
        ("staunch.subject\" ", "subject\" ", "27: \"subject\" is no setting; write two names"),
        ("staunch.subject\" ", "a.b; drop\" ", "is no setting"),
        (
            r#"ca = "certs/internal-ca.pem""#,
            r#"negotiation = "plain""#,
            "19: \"plain\" is none of \"request\", \"direct\"",
        ),
    ];
    for (from, to, expected) in table {
        let found = faults_of("postgres.toml", from, to);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{to}: {expected}\nfound: {found:#?}");
        assert!(!found.join("").contains("canary"), "{to}: a secret is repeated");
    }
}

#[test]
fn what_belongs_to_a_postgres_route_is_refused_on_others() {
    let inject = r#"inject = { header = "authorization", value = "Bearer {secret:openai-key}" }"#;
    let table: &[(&str, &str, &str)] = &[
        (
            inject,
            r#"inject = { user = "a", password = "{secret:openai-key}" }"#,
            "22: an http route logs in nowhere; remove user",
        ),
        (inject, r#"inject = { header = "authorization" }"#, "22: `value` is missing"),
        (inject, r#"inject = [{ value = "{secret:openai-key}" }]"#, "22: `header` is missing"),
        (
            inject,
            &format!("{inject}\napplication_name = \"client\""),
            "23: application_name has no effect on an http route",
        ),
        (
            inject,
            &format!("{inject}\nidentity_guc = \"a.b\""),
            "23: identity_guc has no effect on an http route",
        ),
        (inject, &format!("{inject}\nstatements = \"on\""), "23: statements has no effect on an http route"),
        (
            r#"upstream = "tls://api.openai.com:443""#,
            r#"upstream = { address = "tls://api.openai.com:443", negotiation = "direct" }"#,
            "19: negotiation has no effect on an http route",
        ),
    ];
    for (from, to, expected) in table {
        let found = faults(from, to);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{to}: {expected}\nfound: {found:#?}");
    }
    let found = faults_of("openai.toml", &format!("{inject}\n"), "");
    assert_eq!(found.len(), 1, "only the secret that is used nowhere: {found:#?}");
    let none = "inject = [\n";
    let text = fs::read_to_string(root().join("config/postgres.toml")).unwrap();
    let list = &text[text.find(none).unwrap()..text.find("application_name").unwrap()];
    let found = faults_of("postgres.toml", list, "");
    assert!(
        found.iter().any(|f| f.contains("15: a postgres route needs an account to log in with")),
        "{found:#?}"
    );
}

#[test]
fn what_is_wrong_with_a_redis_route_is_found_with_its_line_and_with_advice() {
    let read = r#"{ user = "read", password = "{secret:redis-read}" }, "#;
    let name = r#"name = "cache""#;
    let with = |line: &str| format!("{name}\n{line}");
    let table: &[(&str, &str, &str)] = &[
        (read, r#"{ user = "read" }, "#, "24: `password` is missing; write password = \"{secret:NAME}\""),
        (read, r#"{ user = "", password = "{secret:redis-read}" }, "#, "24: a user's name has 1 to 63 bytes"),
        (read, r#"{ user = "read", password = "canary" }, "#, "24: a password is named by where it stands"),
        (
            read,
            r#"{ header = "x", value = "{secret:redis-read}" }, "#,
            "24: a redis route has no headers; write user and password, not header",
        ),
        (name, &with("token_slots = [\"bearer\"]"), "17: a redis route takes the token from AUTH or HELLO"),
        (name, &with("alpn = \"h2\""), "17: alpn has no effect on a redis route"),
        (name, &with("host = \"keep\""), "17: host has no effect on a redis route"),
        (name, &with("application_name = \"client\""), "17: application_name has no effect on a redis route"),
        (name, &with("identity_guc = \"a.b\""), "17: identity_guc has no effect on a redis route"),
        (name, &with("statements = \"on\""), "17: statements has no effect on a redis route"),
        (
            r#"ca = "certs/internal-ca.pem""#,
            r#"negotiation = "direct""#,
            "19: negotiation has no effect on a redis route",
        ),
        (
            r#"idle = "1h""#,
            r#"between_requests = "1m""#,
            "27: between_requests has no effect on a redis route",
        ),
    ];
    for (from, to, expected) in table {
        let found = faults_of("redis.toml", from, to);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{to}: {expected}\nfound: {found:#?}");
        assert!(!found.join("").contains("canary"), "{to}: a secret is repeated");
    }
    let found = faults_of("redis.toml", read, r#"{ password = "{secret:redis-read}" }, "#);
    assert!(!found.iter().any(|fault| fault.contains("`user`")), "{found:#?}");
    let text = fs::read_to_string(root().join("config/redis.toml")).unwrap();
    let list = &text[text.find("inject = [\n").unwrap()..text.find("on_expiry").unwrap()];
    let found = faults_of("redis.toml", list, "");
    assert!(
        found.iter().any(|f| f.contains("15: a redis route needs an account to log in with")),
        "{found:#?}"
    );
}

#[test]
fn one_name_leads_to_one_route_however_it_is_written() {
    let second = |name: &str| {
        let text = fs::read_to_string(root().join("config/openai.toml")).unwrap();
        let route = text.split("[[route]]").nth(1).unwrap().split("[limits]").next().unwrap();
        let route = route.replace("\"openai\"", "\"second\"").replace("openai.gw.example.com", name);
        faults("[limits]", &format!("[[route]]{route}\n[limits]"))
    };
    for name in ["openai.gw.example.com", "OpenAI.gw.example.com", "openai.gw.example.com."] {
        assert!(second(name).join("\n").contains("leads to route `openai` already"), "{name}");
    }
    assert_eq!(second("other.gw.example.com"), Vec::<String>::new());
}

#[test]
fn a_worker_stays_awake_for_a_second_at_most() {
    let with = |time: &str| faults("[limits]", &format!("[workers]\nbusy_poll = \"{time}\"\n[limits]"));
    for time in ["0ms", "1ms", "1s"] {
        assert_eq!(with(time), Vec::<String>::new(), "{time}");
    }
    assert!(with("2s").join("\n").contains("stays awake without work for 1s at most"));
    assert!(with("200us").join("\n").contains("\"200us\" is no duration"));
}

#[test]
fn an_absurd_number_of_workers_and_a_slip_in_the_filter_are_said() {
    let with = |table: &str| faults("[limits]", &format!("{table}\n[limits]")).join("\n");
    for table in
        ["[workers]\ncount = 0", "[workers]\ncount = 4", "[log]\nfilter = \"warn,staunch::dial=debug\""]
    {
        assert_eq!(with(table), "", "{table}");
    }
    assert!(with("[workers]\ncount = 100000").contains("100000 is out of range; write 1 to 1024"));
    assert!(with("[log]\nfilter = \"staunch=loud\"").contains("log filter 'staunch=loud' is not understood"));
}

#[test]
fn a_slip_of_the_first_hour_is_answered_with_what_to_write() {
    let rule = r#"[{ issuer = "corp", groups = ["ml", "agents"] }]"#;
    let table = [
        ("[[route]]", "[route]", "a table stands here; write [[route]], with two brackets, for each of them"),
        ("[[listener]]", "[listener]", "write [[listener]], with two brackets"),
        ("[secrets]", "[[secrets]]", "a list stands here; write [secrets], with one bracket, once"),
        (rule, r#"{ issuer = "corp" }"#, "a table stands here; write a list of them: [{ … }]"),
        (rule, r#"["corp"]"#, "a text stands here; write a table"),
        (r#"["ml", "agents"]"#, r#""ml""#, "a text stands here; write a list: [\"…\"]"),
        (r#"audience = ["staunch"]"#, r#"audience = "staunch""#, "write a list: [\"…\"]"),
        (r#"idle = "30m""#, "idle = 30", "a number stands here; write a duration in quotes, such as \"30s\""),
        (r#"protocol = "http""#, r#"protocol = "https""#, "; write \"http\""),
        (r#"protocol = "http""#, r#"protocol = "grpc""#, "; write \"http\""),
        (r#"protocol = "http""#, r#"protocol = "PostgreSQL""#, "; write \"postgres\""),
        (r#"protocol = "http""#, r#"protocol = "tcp""#, "; write \"raw\""),
        ("[::]:8443", "localhost:8443", "write \"127.0.0.1:8443\""),
        ("[::]:8443", ":8443", "write \"[::]:8443\""),
        ("[::]:8443", "127.0.0.1:84433", "84433 is no port; there are 1 to 65535"),
        (
            "tls://api.openai.com:443",
            "https://api.openai.com/v1",
            "write \"tls://api.openai.com:443\"; paths",
        ),
        ("tls://api.openai.com:443", "api.openai.com:443", "write \"tls://api.openai.com:443\""),
        ("tls://api.openai.com:443", "tls://api.openai.com", "write \"tls://api.openai.com:443\""),
        (
            r#"sni = "openai.gw.example.com""#,
            r#"sni = "https://openai.gw.example.com""#,
            "write \"openai.gw.example.com\"",
        ),
        (
            r#"sni = "openai.gw.example.com""#,
            r#"sni = "openai.gw.example.com:8443""#,
            "write \"openai.gw.example.com\"",
        ),
        (r#"sni = "openai.gw.example.com""#, r#"sni = "10.0.0.5""#, "clients of an address send no name"),
        ("oidc = ", "issuer = ", "unknown key `issuer`; the nearest key is `oidc`"),
        ("upstream = ", "backend = ", "unknown key `backend`; the nearest key is `upstream`"),
        ("sni = ", "hostname = ", "unknown key `hostname`; the nearest key is `sni`"),
        (
            "openai.gw.example.com",
            "openai.example.org",
            "not good for openai.example.org; it is for *.gw.example.com",
        ),
        (
            r#"chain = "certs/gateway.pem""#,
            r#"chain = "certs/gateway.key""#,
            "no certificate in PEM but a private key; chain and key are swapped",
        ),
        (
            r#"key = "certs/gateway.key""#,
            r#"key = "certs/gateway.pem""#,
            "no private key but a certificate; chain and key are swapped",
        ),
        (
            r#"key = "certs/gateway.key""#,
            r#"key = "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----""#,
            "itself stands here",
        ),
        (
            r#"chain = "certs/gateway.pem""#,
            r#"chain = "-----BEGIN CERTIFICATE-----\nSECRET\n-----END CERTIFICATE-----""#,
            "itself stands here",
        ),
        (r#"chain = "certs/gateway.pem""#, r#"chain = "~/gateway.pem""#, "the shell's"),
        (
            r#"chain = "certs/gateway.pem""#,
            r#"chain = "certs/none.pem""#,
            "begins at the configuration's folder",
        ),
        ("file:secrets/openai.key", "file:$HOME/openai.key", "the shell's"),
        ("file:secrets/openai.key", "$OPENAI_API_KEY", "without $"),
        ("file:secrets/openai.key", "env:$OPENAI_API_KEY", "without $"),
    ];
    for (from, to, expected) in table {
        let found = faults(from, to);
        assert!(!found.iter().any(|fault| fault.contains("SECRET")), "{from} -> {to}: {found:#?}");
        assert!(found.iter().any(|fault| fault.contains(expected)), "{from} -> {to}: {found:#?}");
    }
    let missing = staunch::config::load(Path::new("nowhere.toml")).err().unwrap().to_string();
    assert!(missing.contains("`staunch init` writes one"), "{missing}");
    let folder = staunch::config::load(root()).err().unwrap().to_string();
    assert!(folder.contains("name the file in it"), "{folder}");
}

#[test]
fn all_faults_of_a_file_come_in_one_run() {
    let found = faults("[limits]", "[nonsense]\nx = 1\n[limits]\nstreams = 0\nhead = \"big\"\n");
    for part in ["unknown key `nonsense`", "0 is out of range", "\"big\" is no size"] {
        assert!(found.iter().any(|fault| fault.contains(part)), "{part}: {found:#?}");
    }
    let found =
        faults("[limits]", "[workers]\ncount = \"x\"\n[[route]]\nname = 5\n[log]\nformat = true\n[limits]\n");
    for part in [
        "28: a text stands here",
        "30: a number stands here",
        "29: `sni` is missing",
        "32: true or false stands",
    ] {
        assert!(found.iter().any(|fault| fault.contains(part)), "{part}: {found:#?}");
    }
}

/// Lines that set a key to a value that ends on the same line, and both parts.
fn settings(text: &str) -> Vec<(usize, &str, &str)> {
    let whole = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase()) && !line.ends_with('[');
    let lines = text.lines().enumerate().filter(|(_, line)| whole(line));
    lines.filter_map(|(at, line)| Some((at, line.split_once('=')?.0, line))).collect()
}

/// Loads an example with some lines replaced, and returns the lines of its faults.
fn lines_of_faults(example: &Path, replaced: &[(usize, String)]) -> Vec<usize> {
    let folder = folder();
    let text = fs::read_to_string(example).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    for (at, line) in replaced {
        lines[*at] = line;
    }
    let path = folder.path().join("staunch.toml");
    fs::write(&path, lines.join("\n")).unwrap();
    let faults = staunch::config::load(&path).err().map(|faults| faults.list).unwrap_or_default();
    faults.iter().map(|fault| fault.line).collect()
}

#[test]
fn a_value_that_cannot_be_read_is_told_alone_and_hides_nothing() {
    for example in examples() {
        let text = fs::read_to_string(&example).unwrap();
        let settings = settings(&text);
        let wrong: Vec<(usize, String)> = settings
            .iter()
            // What stood there is still to be seen: it may be what uses a secret.
            .flat_map(|(at, key, line)| {
                ["1979-05-27", "@", "= ", ""].map(|bad| (*at, format!("{key}= {bad} # {line}")))
            })
            .collect();
        assert!(wrong.len() >= 20, "{}", example.display());
        for (n, one) in wrong.iter().enumerate() {
            let found = lines_of_faults(&example, std::slice::from_ref(one));
            assert_eq!(found, [one.0 + 1], "{}: {one:?}", example.display());
            // Beside it, another one somewhere else.
            let other = &wrong[(n * 7 + 5) % wrong.len()];
            if other.0 != one.0 {
                let mut both = [one.0 + 1, other.0 + 1];
                both.sort();
                let found = lines_of_faults(&example, &[one.clone(), other.clone()]);
                assert_eq!(found, both, "{}: {one:?} {other:?}", example.display());
            }
        }
    }
}

#[test]
fn what_has_no_value_or_no_user_is_told_beside_values_that_cannot_be_read() {
    let found = faults(
        "[limits]",
        "[secrets.more]\n[[issuer]]\nname = \"b\"\noidc = \"https://b\"\naudience = [7]\n[limits]\nstreams = \"many\"\nfields = -1\nhead = what\n",
    );
    for part in [
        "27: a table stands here",
        "28: issuer `b` is named by no route's allow",
        "31: a number stands here",
        "33: a text stands here",
        "34: this number is out of range; write 0 to 9223372036854775807",
        "35: string values must be quoted",
    ] {
        assert!(found.iter().any(|fault| fault.contains(part)), "{part}: {found:#?}");
    }
    assert_eq!(found.len(), 6, "{found:#?}");
}

#[test]
fn files_that_others_can_read_are_refused() {
    for name in ["certs/gateway.key", "secrets/openai.key"] {
        let folder = folder();
        let path = folder.path().join("staunch.toml");
        fs::copy(root().join("config/openai.toml"), &path).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
        let faults = staunch::config::load(&path).err().expect("a fault").to_string();
        assert!(faults.contains("chmod 600"), "{faults}");
    }
}

#[test]
fn no_fault_of_an_issuer_hides_another_or_one_of_a_route() {
    let found = faults(
        "https://idp.example.com\"          # discovery stands below it\naudience = [\"staunch\"]",
        "https://idp.example.com?x=1\"\naudience = []\njwks_hosts = [\"a/b\", \"ok:1\", \"c d\"]\nca = \"certs/gateway.key\"",
    );
    for part in [
        "8: issuer `corp`: \"https://idp.example.com?…\" has a query",
        "9: issuer `corp`: has no audience",
        "\"a/b\" in jwks_hosts is no host",
        "\"c d\" in jwks_hosts is no host",
        "11: ",
    ] {
        assert!(found.iter().any(|fault| fault.contains(part)), "{part}: {found:#?}");
    }
    assert_eq!(found.len(), 5, "{found:#?}");
    // One fault is told once, and beside others.
    assert_eq!(faults("https://idp.example.com", "https://idp.example.com#x").len(), 1);
    let second = "[[issuer]]\nname = \"b\"\noidc = \"https://b?x\"\naudience = [\"a\"]\n[limits]\nfields = 0";
    let found = faults("[limits]", second).join("\n");
    for part in ["has a query", "named by no route", "0 is out of range"] {
        assert!(found.contains(part), "{part}: {found}");
    }
}

#[test]
fn networks_may_be_a_single_host_or_everything() {
    for network in ["10.1.2.3/32", "0.0.0.0/0", "::/0", "fd00::1/128", "192.168.4.0/22"] {
        let line = format!("address = \"[::]:8443\"\nproxy_protocol_from = [\"{network}\"]");
        assert_eq!(faults(r#"address = "[::]:8443""#, &line), Vec::<String>::new(), "{network}");
    }
}

#[test]
fn no_fault_of_a_route_hides_another() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("certs/empty.pem"), "").unwrap();
    private(&at("certs/empty.key"), "");
    let path = at("staunch.toml");
    fs::write(
        &path,
        r#"[[listener]]
address = "127.0.0.1:8443"
[[issuer]]
name = "corp"
oidc = "http://idp.example.com"
audience = []
[[route]]
name = "all wrong"
sni = "a..b"
protocol = "raw"
host = "keep"
client_certificates = "required"
client_ca = "certs/empty.pem"
client_crl = "certs/missing.pem"
pq = "maybe"
on_expiry = "never"
allow = [{ issuer = "nobody" }]
[route.certificate]
chain = "certs/empty.pem"
key = "certs/empty.key"
[route.certificate_identity]
name = "machines"
subject = ["shoe size"]
[route.upstream]
address = "http://host"
ca = "certs/missing.pem"
pin = "md5/x"
sni = "not a name"
pq = "never"
[route.upstream.certificate]
chain = "certs/gateway.pem"
key = "certs/other.key"
[route.timeouts]
connect = "5"
between_requests = "1m"
"#,
    )
    .unwrap();
    let faults = staunch::config::load(&path).err().expect("faults").list;
    let lines: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
    // Every line with a value of its own that is wrong, and no other.
    let wrong = [5, 6, 8, 9, 11, 13, 14, 15, 16, 17, 19, 20, 21, 23, 25, 26, 27, 28, 29, 32, 34, 35];
    for line in wrong {
        assert!(lines.contains(&line), "line {line} is not reported: {faults:#?}");
    }
    assert!(lines.iter().all(|line| wrong.contains(line) || [3, 7].contains(line)), "{faults:#?}");
    assert!(lines.is_sorted());
}

#[test]
fn what_clients_will_be_shown_is_printed() {
    let folder = folder();
    let path = folder.path().join("staunch.toml");
    fs::copy(root().join("config/openai.toml"), &path).unwrap();
    let text = staunch::config::load(&path).unwrap_or_else(|faults| panic!("{faults}")).summary.to_string();
    assert!(text.contains("certificate for *.gw.example.com, until 4096-01-01 ("), "{text}");
}

#[test]
fn what_is_wrong_with_a_plaintext_upstream_is_found_with_its_line_and_with_advice() {
    let upstream = r#"upstream = "tcp://127.0.0.1:50051""#;
    let flag = "unsafe_plaintext_upstream = true\n";
    let table: &[(&str, &str, &str)] = &[
        (
            flag,
            "",
            "16: \"tcp://127.0.0.1:50051\" has no TLS; write tls://host:port, or add unsafe_plaintext_upstream",
        ),
        ("= true", "= false", "16: \"tcp://127.0.0.1:50051\" has no TLS"),
        ("= true", "= 1", "17: a number stands here; write true or false"),
        (
            upstream,
            r#"upstream = "tls://host.internal:50051""#,
            "17: unsafe_plaintext_upstream has no effect on",
        ),
        (
            upstream,
            r#"upstream = "tcp://localhost:50051""#,
            "16: \"tcp://localhost:50051\" is no upstream: without TLS",
        ),
        (
            upstream,
            r#"upstream = "tcp://10.0.0.1:50051""#,
            "16: \"tcp://10.0.0.1:50051\" is no upstream: it is not a",
        ),
        (upstream, r#"upstream = "tcp://0.0.0.0:50051""#, "it is not a loopback address"),
        (
            upstream,
            r#"upstream = "tcp://127.0.0.1""#,
            "16: \"tcp://127.0.0.1\" is no upstream: write \"tcp://127",
        ),
        (
            upstream,
            r#"upstream = "unix:run/x""#,
            "16: \"unix:run/x\" is no upstream: a socket's path is absolute",
        ),
        (
            upstream,
            r#"upstream = "http://127.0.0.1:50051""#,
            "16: \"http://127.0.0.1:50051\" is no upstream; write",
        ),
        (
            upstream,
            r#"upstream = { address = "tcp://127.0.0.1:1", ca = "none.pem" }"#,
            "16: ca has no effect",
        ),
        (upstream, r#"upstream = { address = "tcp://127.0.0.1:1", pin = "x" }"#, "16: pin has no effect"),
        (upstream, r#"upstream = { address = "tcp://127.0.0.1:1", sni = "x" }"#, "16: sni has no effect"),
        (upstream, r#"upstream = { address = "unix:/run/x", pq = "require" }"#, "16: pq has no effect"),
        (
            upstream,
            r#"upstream = { address = "unix:/run/x", negotiation = "direct" }"#,
            "16: negotiation has no",
        ),
        (
            upstream,
            r#"upstream = { address = "unix:/run/x", certificate = { chain = "a", key = "b" } }"#,
            "16: certificate has no effect on an upstream without TLS; remove it",
        ),
        (
            "alpn = \"h2\"\n",
            "",
            "15: an upstream without TLS cannot be asked for its version of HTTP; write alpn",
        ),
    ];
    for (from, to, expected) in table {
        let found = faults_of("plaintext-upstream.toml", from, to);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{to}: {expected}\nfound: {found:#?}");
        let most = if to.contains("negotiation") || *from == flag { 2 } else { 1 };
        assert!(found.len() <= most, "{to}: {found:#?}");
    }
    for (from, to) in [
        (upstream, r#"upstream = { address = "tcp://127.0.0.1:50051" }"#),
        (upstream, r#"upstream = "tcp://[::1]:50051""#),
        (upstream, r#"upstream = "unix:/run/agents.sock""#),
        (r#"alpn = "h2""#, r#"alpn = "auto""#),
    ] {
        assert_eq!(faults_of("plaintext-upstream.toml", from, to), [""; 0], "{to}");
    }
}

#[test]
fn a_plaintext_upstream_is_warned_of_and_printed() {
    let folder = folder();
    let path = folder.path().join("staunch.toml");
    fs::copy(root().join("config/plaintext-upstream.toml"), &path).unwrap();
    let loaded = staunch::config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
    let text = loaded.summary.to_string();
    assert!(
        text.contains("agents.gw.example.com  →  tcp://127.0.0.1:50051\n  PLAINTEXT   the upstream leg"),
        "{text}"
    );
    assert!(text.contains("upstream off (no TLS)"), "{text}");
    let warnings: Vec<_> = loaded.warnings.list.iter().map(|one| (one.line, one.text.as_str())).collect();
    let warning = "nothing encrypts or verifies the way to tcp://127.0.0.1:50051 (unsafe_plaintext_upstream)";
    assert_eq!(warnings, [(16, warning)]);
    fs::copy(root().join("config/grpc.toml"), &path).unwrap();
    let loaded = staunch::config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(!loaded.summary.to_string().contains("PLAINTEXT") && loaded.warnings.list.is_empty());
}

#[test]
fn a_postgres_upstream_of_this_machine_may_know_the_gateway_without_a_password() {
    let folder = folder();
    let path = folder.path().join("staunch.toml");
    let text = fs::read_to_string(root().join("config/plaintext-upstream.toml")).unwrap();
    let text = text
        .replace(
            "protocol = \"http\"\nalpn = \"h2\"\n",
            "protocol = \"postgres\"\ninject = { user = \"staunch\" }\n",
        )
        .replace("token_slots = [\"bearer\"]\n", "")
        .replace("tcp://127.0.0.1:50051", "unix:/run/postgresql/.s.PGSQL.5432");
    fs::write(&path, text).unwrap();
    let loaded = staunch::config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
    assert!(loaded.gateway.routes[0].upstream.is_plaintext());
}

#[test]
fn what_is_wrong_with_a_tunnel_is_found_with_its_line_and_with_advice() {
    let tunnel = r#"tunnel = { sni = "tunnel.gw.example.com", certificate = { chain = "certs/gateway.pem", key = "certs/gateway.key" } }"#;
    let table: &[(&str, &str, &str)] = &[
        ("tunnel.gw.example.com", "pg.gw.example.com", "5: pg.gw.example.com leads to route `warehouse`"),
        ("tunnel.gw.example.com", "PG.gw.example.com.", "5: pg.gw.example.com leads to route `warehouse`"),
        ("tunnel.gw.example.com", "*.gw.example.com", "5: \"*.gw.example.com\" is no DNS name"),
        ("tunnel.gw.example.com", "tunnel.example.org", "is not good for tunnel.example.org"),
        ("sni = \"tunnel.gw.example.com\", ", "", "5: `sni` is missing"),
        (tunnel, "", "17: `sni` is missing, and no listener has a tunnel"),
        (tunnel, "", "37: a raw route knows clients by certificate or tunnel only"),
        (
            "protocol = \"raw\"",
            "protocol = \"raw\"\ncertificate = { chain = \"certs/gateway.pem\", key = \"certs/gateway.key\" }",
            "38: certificate has no effect without sni",
        ),
        (
            "name = \"queue\"",
            "name = \"queue\"\nsni = \"queue.gw.example.com\"",
            "35: `certificate` is missing",
        ),
        (
            "protocol = \"raw\"",
            "protocol = \"raw\"\nclient_certificates = \"required\"\nclient_ca = \"certs/machines-ca.pem\"",
            "41: this route reads no tokens, so nobody of `corp` can use it",
        ),
    ];
    for (from, to, expected) in table {
        let found = faults_of("tunnel.toml", from, to);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{from}: {expected}\nfound: {found:#?}");
    }
    assert_eq!(faults_of("tunnel.toml", "\"queue\"", "\"queue-2\""), Vec::<String>::new());
}

/// The example for machines with certificates, changed; its faults and warnings with their lines.
fn of_machines(changes: &[(&str, &str)], next_update: (i32, u8, u8)) -> (Vec<String>, Vec<String>) {
    let folder = folder();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign, rcgen::KeyUsagePurpose::KeyCertSign];
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(next_update.0, next_update.1, next_update.2),
        crl_number: 1u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    fs::write(folder.path().join("certs/machines.crl"), list.signed_by(&ca).unwrap().pem().unwrap()).unwrap();
    fs::write(folder.path().join("certs/machines-ca.pem"), ca.pem()).unwrap();
    let mut text = fs::read_to_string(root().join("config/raw-mtls.toml")).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let path = folder.path().join("gateway.toml");
    fs::write(&path, text).unwrap();
    let shown = |list: &[staunch::config::Fault]| list.iter().map(|f| f.text.clone()).collect();
    match staunch::config::load(&path) {
        Ok(loaded) => (Vec::new(), shown(&loaded.warnings.list)),
        Err(faults) => (shown(&faults.list), Vec::new()),
    }
}

const GROUPS: &str = "{ uri = \"spiffe://example.com/ci/*\", groups = [\"ci\"] },";

#[test]
fn patterns_say_where_a_name_stands() {
    let later = (2090, 1, 1);
    for (line, part) in [
        ("{ subject = \"*acme.com\", groups = [\"ci\"] },", "may stand in several places"),
        ("{ dns = \"*acme.com\", groups = [\"ci\"] },", "is no pattern for dns"),
        ("{ uri = \"spiffe://example.com/ci*\", groups = [\"ci\"] },", "is no pattern for uri"),
        ("{ cn = \"ci-*\", groups = [\"ci\"] },", "no subject is taken from cn"),
        ("{ dns = \"a.example.com\", uri = \"spiffe://a/b\", groups = [\"ci\"] },", "has one pattern"),
        ("{ groups = [\"ci\"] },", "names nobody"),
    ] {
        let (faults, _) = of_machines(&[(GROUPS, line)], later);
        assert!(faults.len() == 1 && faults[0].contains(part), "{line}: {faults:?}");
    }
    let one =
        [("[\"uri\", \"dns\"]", "[\"dns\"]"), (GROUPS, "{ subject = \"*.acme.com\", groups = [\"ci\"] },")];
    assert_eq!(of_machines(&one, later), (vec![], vec![]));
    let (_, warnings) = of_machines(&[(GROUPS, "{ dns = \"*\", groups = [\"ci\"] },")], later);
    assert!(warnings[0].contains("fits every certificate"), "{warnings:?}");
}

#[test]
fn a_revocation_list_past_its_next_update_is_said() {
    let crl = ("client_ca = ", "client_crl = \"certs/machines.crl\"\nclient_ca = ");
    let (past, later) = ((2024, 5, 6), (2090, 1, 1));
    assert_eq!(of_machines(&[crl], later), (vec![], vec![]));
    let (_, warnings) = of_machines(&[crl], past);
    assert!(warnings[0].contains("2024-05-06: clients with certificates are refused"), "{warnings:?}");
    let warn =
        ("client_ca = ", "client_crl_expired = \"warn\"\nclient_crl = \"certs/machines.crl\"\nclient_ca = ");
    let (_, warnings) = of_machines(&[warn], past);
    assert!(warnings[0].contains("whoever was revoked since gets in"), "{warnings:?}");
    let (faults, _) = of_machines(&[("client_ca = ", "client_crl_expired = \"warn\"\nclient_ca = ")], past);
    assert!(faults[0].contains("no effect without client_crl"), "{faults:?}");
}

/// openai.toml with a second listener and a second route under the name of the first.
fn two_listeners(first: &str, second: &str, hosts: &str) -> Result<staunch::config::Loaded, Vec<String>> {
    let folder = folder();
    let text = fs::read_to_string(root().join("config/openai.toml")).unwrap();
    let start = text.find("[[route]]").unwrap();
    let end = text.find("[limits]").unwrap();
    let twin = text[start..end].replace("name = \"openai\"", "name = \"twin\"");
    let address = "address = \"[::]:8443\"";
    assert!(text.contains(address));
    let listeners = format!("{address}\n{first}\n[[listener]]\naddress = \"0.0.0.0:444\"\n{second}");
    let sni = "sni = \"openai.gw.example.com\"";
    let twin = twin.replace(sni, &format!("{sni}\n{hosts}"));
    let text = format!("{}{twin}\n{}", &text[..end], &text[end..]);
    let path = folder.path().join("two.toml");
    fs::write(&path, text.replacen(address, &listeners, 1)).unwrap();
    staunch::config::load(&path).map_err(|faults| faults.list.iter().map(|f| f.text.to_string()).collect())
}

#[test]
fn a_name_leads_to_one_route_on_each_listener() {
    use staunch::gateway::Named;
    let named = |loaded: &staunch::config::Loaded, listener| match loaded
        .gateway
        .named(listener, "OpenAI.gw.example.com.")
    {
        Some(Named::Route(route)) => route.name.to_string(),
        _ => "none".to_owned(),
    };
    let loaded = two_listeners("routes = [\"openai\"]", "routes = [\"twin\"]\ndefault_route = \"twin\"", "");
    let loaded = loaded.unwrap();
    assert_eq!((named(&loaded, 0), named(&loaded, 1)), ("openai".into(), "twin".into()));
    let default = loaded.gateway.listeners[1].default_route.as_ref().unwrap();
    assert_eq!((&*default.0, &loaded.gateway.listeners[0].default_route), ("twin", &None));
    let both = two_listeners("", "routes = [\"twin\"]", "").err().unwrap();
    assert!(both.iter().any(|text| text.contains("leads to route `openai` already")), "{both:?}");
    let table = [
        ("routes = [\"openai\", \"nobody\"]", "routes = [\"twin\"]", "there is no route `nobody`"),
        ("routes = [\"openai\"]", "routes = [\"openai\"]", "route `twin` is in no listener's `routes`"),
        (
            "routes = [\"openai\"]\ndefault_route = \"twin\"",
            "routes = [\"twin\"]",
            "not among this listener's `routes`",
        ),
        (
            "routes = [\"openai\"]\ndefault_route = \"none\"",
            "routes = [\"twin\"]",
            "there is no route `none`",
        ),
    ];
    for (first, second, wanted) in table {
        let found = two_listeners(first, second, "").err().unwrap_or_default();
        assert!(found.iter().any(|text| text.contains(wanted)), "{wanted}: {found:?}");
    }
}

#[test]
fn hosts_say_which_names_a_request_may_have() {
    let hosts = |written: &str| {
        let loaded = two_listeners("routes = [\"openai\"]", "routes = [\"twin\"]", written);
        loaded.map(|loaded| loaded.gateway.called("twin").unwrap().hosts.clone())
    };
    let name = "openai.gw.example.com".to_owned();
    assert_eq!(hosts("").unwrap(), Some(vec![name.clone()]));
    assert_eq!(hosts("hosts = \"any\"").unwrap(), None);
    let list =
        hosts("hosts = [\"API.example.com.\", \"*.example.org\", \"192.0.2.1\", \"::1\"]").unwrap().unwrap();
    assert_eq!(list, [&name, "api.example.com", "*.example.org", "192.0.2.1", "::1"]);
    for wrong in ["api.example.com:443", "https://api.example.com", "a.*.com", "", "any\", \"b.example.com"] {
        let found = hosts(&format!("hosts = [\"{wrong}\"]")).unwrap_err();
        assert!(
            found.iter().any(|text| text.contains("no name of a host without port")),
            "{wrong}: {found:?}"
        );
    }
}

/// Parts of the example for OpenAI.
const HEADER: &str = r#"header = "authorization", value = "Bearer {secret:openai-key}""#;
const STORED: &str = r#""Bearer {secret:openai-key}""#;
const SECRETS: (&str, &str) = (
    "[secrets]\nopenai-key = \"file:secrets/openai.key\"    # chmod 600; or env:NAME, credential:NAME (systemd)\n",
    "",
);

#[test]
fn plausible_mistakes_are_warned_of_with_their_line() {
    let rule = r#"{ issuer = "corp", groups = ["ml", "agents"] }"#;
    for (from, to, part) in [
        (rule, r#"{ issuer = "corp", groups = ["*"] }"#, "21: \"*\" in groups is compared as it stands"),
        (rule, r#"{ issuer = "corp", subjects = ["^ann$"] }"#, "21: \"^ann$\" in subjects is compared"),
        (rule, r#"{ issuer = "corp", groups = [""] }"#, "21: groups names \"\""),
        (rule, r#"{ issuer = "corp", claims = { email = "a@b.example" } }"#, "email_verified"),
        (r#"audience = ["staunch"]"#, r#"audience = ["account"]"#, "9: \"account\" is an audience"),
        (
            r#"audience = ["staunch"]"#,
            r#"audience = ["staunch "]"#,
            "9: \"staunch \" is compared with its blanks",
        ),
        ("tls://api.openai.com:443", "tls://localhost:8443", "19: this is a listener of the gateway's own"),
        ("tls://api.openai.com:443", "tls://[::1]:8443", "19: this is a listener of the gateway's own"),
        ("tls://api.openai.com:443", "tls://localhost:9443", ""),
        ("[limits]", "[workers]\ncount = 1000\n[limits]", "28: 1000 threads take turns on the"),
        ("[limits]", "[log]\nfilter = \"inof\"\n[limits]", "28: \"inof\" is no level"),
        ("permit_deadline = \"10s\"", "permit_deadline = \"1h\"", "28: whoever connects may keep a place"),
        (r#"audience = ["staunch"]"#, r#"audience = ["staunch", "api"]"#, "name the one that is meant"),
        ("https://idp.example.com", "https://idp.example.com/", "8: this issuer ends with a `/`"),
        ("https://idp.example.com", "https://accounts.google.com", ""),
        (
            r#"address = "[::]:8443""#,
            "address = \"[::]:8443\"\nproxy_protocol_from = [\"0.0.0.0/0\"]",
            "5: 0.0.0.0/0 is nearly everybody",
        ),
        (
            r#"protocol = "http""#,
            "protocol = \"http\"\nclient_certificates = \"optional\"\nclient_ca = \"certs/machines-ca.pem\"",
            "19: clients come in without a certificate",
        ),
        (STORED, r#""Bearer sk-live""#, "20: a secret stands here itself"),
        (HEADER, r#"header = "x-tenant", value = "sk-live-123""#, "20: a secret stands here itself"),
        (
            HEADER,
            r#"header = "x-tenant", value = "0123456789abcdef0123456789abcdef""#,
            "20: a secret stands here itself",
        ),
        (HEADER, r#"header = "x-tenant", value = "acme""#, ""),
        (
            rule,
            r#"{ issuer = "corp", subjects = ["ann "] }"#,
            "21: \"ann \" in subjects is compared with its blanks",
        ),
        ("tls://api.openai.com:443", "tls://api.openai.com:80", "19: port 80 hardly speaks TLS"),
        (
            "groups_claim = \"groups\" ",
            "groups_claim = \"\" ",
            "6: groups_claim is empty, so nobody has groups",
        ),
        (r#"protocol = "http""#, "protocol = \"http\"\nhost = \"keep\"", ""),
    ] {
        let mut changes = vec![(from, to)];
        if from == STORED || from == HEADER {
            // A secret that nothing uses would be a fault.
            changes.push(SECRETS);
        }
        let warnings = warnings_with(&changes);
        match part {
            "" => assert!(warnings.is_empty(), "{warnings:?}"),
            part => assert!(warnings.len() == 1 && warnings[0].contains(part), "{to}: {warnings:?}"),
        }
    }
    let public =
        [("https://idp.example.com", "https://accounts.google.com"), (rule, r#"{ issuer = "corp" }"#)];
    let warnings = warnings_with(&public);
    assert!(warnings[0].contains("21: everybody in the world"), "{warnings:?}");
    assert_eq!(warnings_with(&[]), Vec::<String>::new());
}

#[test]
fn one_missing_bracket_is_one_fault() {
    let folder = folder();
    for example in ["openai", "postgres", "mysql", "tunnel", "raw-mtls", "plaintext-upstream"] {
        let whole = fs::read_to_string(root().join(format!("config/{example}.toml"))).unwrap();
        let whole: Vec<&str> = whole.lines().map(|line| line.split(" # ").next().unwrap()).collect();
        let whole = whole.join("\n");
        let mut tried = 0;
        for (at, bracket) in whole.match_indices(['[', ']', '{', '}']) {
            let line = whole[..at].matches('\n').count() + 1;
            let text = whole.lines().nth(line - 1).unwrap();
            // Brackets in texts and comments are no brackets; `[::]` and templates stand in texts.
            let before = whole[..at].rsplit('\n').next().unwrap();
            if text.starts_with('#') || before.matches('"').count() % 2 == 1 {
                continue;
            }
            tried += 1;
            let path = folder.path().join("gateway.toml");
            fs::write(&path, format!("{}{}", &whole[..at], &whole[at + 1..])).unwrap();
            let faults =
                staunch::config::load(&path).err().unwrap_or_else(|| panic!("{example}:{line} {bracket}"));
            // It is told where the bracket is, or where the one was opened that it closes.
            let own =
                faults.list.len() == 1 && (line.saturating_sub(4)..=line + 4).contains(&faults.list[0].line);
            assert!(own, "{example}:{line} without {bracket}: {text}\n{faults}");
        }
        assert!(tried > 8, "{example}");
    }
}

#[test]
fn an_issuer_is_named_by_itself_and_not_by_its_documents() {
    let (from, to) = ("https://idp.example.com", "https://idp.example.com/.well-known/openid-configuration");
    let folder = folder();
    let text = fs::read_to_string(root().join("config/openai.toml")).unwrap().replace(from, to);
    let path = folder.path().join("gateway.toml");
    fs::write(&path, text).unwrap();
    let faults = staunch::config::load(&path).err().unwrap();
    assert_eq!(faults.list.len(), 1, "{faults}");
    assert!(faults.to_string().contains("gateway.toml:8") && faults.to_string().contains("write the issuer"));
}

#[test]
fn a_password_in_an_upstreams_address_is_not_repeated() {
    let folder = folder();
    let text = fs::read_to_string(root().join("config/postgres.toml")).unwrap();
    let path = folder.path().join("gateway.toml");
    fs::write(&path, text.replace("tls://pg.internal:5432", "tls://svc:hunter2@pg.internal:5432")).unwrap();
    let faults = staunch::config::load(&path).err().unwrap().to_string();
    assert!(faults.contains("no password in its address") && !faults.contains("hunter2"), "{faults}");
}

/// The warnings of the example for OpenAI, changed.
fn warnings_with(changes: &[(&str, &str)]) -> Vec<String> {
    let folder = folder();
    let mut text = fs::read_to_string(root().join("config/openai.toml")).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let path = folder.path().join("gateway.toml");
    fs::write(&path, text).unwrap();
    let loaded = staunch::config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
    loaded.warnings.list.iter().map(|one| format!("{}: {}", one.line, one.text)).collect()
}

#[test]
fn what_is_wrong_about_certificates_that_are_ordered_is_told() {
    let own = r#"certificate = { acme = "letsencrypt" }"#;
    let eab = "ca = \"certs/internal-ca.pem\"";
    let table: &[(&str, &str, &str)] = &[
        (
            own,
            r#"certificate = { acme = "letsencript" }"#,
            "\"letsencript\" is no authority; write \"letsencrypt\"",
        ),
        (own, r#"certificate = { acme = "http://ca.example/directory" }"#, "is no authority"),
        (own, r#"certificate = { acme = [] }"#, "no authority is named"),
        (own, r#"certificate = { chain = "certs/gateway.pem" }"#, "`key` is missing"),
        (own, r#"certificate = {}"#, "write chain and key (PEM files), or acme"),
        (
            own,
            r#"certificate = { acme = "letsencrypt", chain = "certs/gateway.pem" }"#,
            "remove chain and key, or acme",
        ),
        (
            own,
            r#"certificate = { acme = "letsencrypt", challenge = "dns" }"#,
            "\"dns\" is none of \"tls-alpn-01\"",
        ),
        (
            own,
            r#"certificate = { acme = "letsencrypt", challenge = "dns-01" }"#,
            "write dns_hook under [acme]",
        ),
        (
            own,
            r#"certificate = { acme = "letsencrypt", names = ["a b"] }"#,
            "neither a DNS name nor an address",
        ),
        (
            own,
            r#"certificate = { chain = "certs/gateway.pem", key = "certs/gateway.key", challenge = "dns-01" }"#,
            "challenge has no effect without acme",
        ),
        (r#"sni = "openai.gw.example.com""#, r#"sni = "*.gw.example.com""#, "write challenge = \"dns-01\""),
        ("http = \"[::]:80\"", "", "http-01 needs a listener"),
        (r#", "internal"]"#, "]", "authority `internal` is named by no certificate"),
        ("directory = \"https://ca.internal/acme/acme/directory\"", "", "`directory` is missing"),
        ("https://ca.internal", "http://ca.internal", "is no directory; write \"https://…\""),
        (eab, "eab_key_id = \"a\"", "eab_key_id and eab_key belong together"),
        (eab, "eab_key_id = \"a\"\neab_key = \"c2VjcmV0\"", "a key is named by where it stands"),
    ];
    for (from, to, expected) in table {
        let found = faults_of("acme.toml", from, to);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{to}: {expected}\nfound: {found:#?}");
        assert!(!found.iter().any(|fault| fault.contains("c2VjcmV0")), "{found:#?}");
    }
    assert_eq!(faults_of("acme.toml", "\"openai\"", "\"openai-2\""), Vec::<String>::new());
}
