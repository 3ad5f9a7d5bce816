//! Forms in which values of each kind are written, and what only looks like one.

use super::*;

/// A text and what of it passes.
const FORMS: [(&str, &str); 28] = [
    (
        "3714 496353 98431 and 3056 9309 0259 04 and 6011 1111 1111 1117 and 3530 1113 3330 0000",
        "3714 49**** *8431 and 3056 93** **59 04 and 6011 11** **** 1117 and 3530 11** **** 0000",
    ),
    (
        "2200 0000 0000 0053, 2223-0031-2200-3222, 6205 5000 0000 0000 004, 6759 6498 2643 8453, 4222222222222, 9792 0303 9444 0796",
        "2200 00** **** 0053, 2223-00**-****-3222, 6205 50** **** ***0 004, 6759 64** **** 8453, 422222***2222, 9792 03** **** ****",
    ),
    (
        "4111 1111 1111 1111 and 4111 1111 1111 1111 and 4111–1111–1111–1111",
        "4111 11** **** 1111 and 4111 11** **** 1111 and 4111–11**–****–1111",
    ),
    (
        r#"card:4111111111111111,next "4111111111111111" (4111111111111111) cc=4111-1111-1111-1111;"#,
        r#"card:411111******1111,next "411111******1111" (411111******1111) cc=4111-11**-****-1111;"#,
    ),
    (
        "DE89 3704 0044 0532 0130 00 FR14 2004 1010 0505 0001 3M02 606 CH93-0076-2011-6238-5295-7 NO9386011117947",
        "DE89 **** **** **** **** ** FR14 **** **** **** **** **** *** CH93-****-****-****-****-* NO93***********",
    ),
    (
        "IBAN:GB29NWBK60161331926819 (MT84MALT011000012345MTLCAST001S)",
        "IBAN:GB29****************** (MT84***************************)",
    ),
    (
        r#"jane+news@example.co.uk, "jane doe"@example.com, j@münchen.de, ивана@пример.рф, o'neil@mail.exämple.de, jane@example.com是我"#,
        r#"jane+news**************, "jane doe"************, j************, ивана******************, o'neil*****************, jane************是我"#,
    ),
    (
        "mailto:jane@sub.example.museum?subject <jane@example.com> jane@xn--mnchen-3ya.de.",
        "mailto:jane*******************?subject <jane************> jane******************.",
    ),
    (
        "ssn:536-90-4399 536–90–4399 536 90 4399 536.90.4399 987-65-4321",
        "ssn:536-**-**** 536–**–**** 536 ** **** 536.**.**** 987-65-4321",
    ),
    (
        "+49 (0)30 901820, +49-171-1234567, 0049 30 901820, 030/901820, 0171 / 12345678, (030) 90 18 20, 0800 1234567",
        "+49 (*)** ******, +49-***-*******, 0049 ** ******, 030/******, 0171 / ********, (030) ** ** **, 0800 *******",
    ),
    (
        "+33 1 23 45 67 89, 01 23 45 67 89, 01.23.45.67.89, +44 (0)20 7946 0958, 07700 900123, 0161 496 0000, 01632 960 001",
        "+33 * ** ** ** **, 01 ** ** ** **, 01.**.**.**.**, +44 (*)** **** ****, 07700 ******, 0161 *** ****, 01632 *** ***",
    ),
    (
        "(555) 123-4567, 555.123.4567, 1-800-555-0199, +1 (555) 123-4567, 1 (555) 123-4567 ext. 5, tel:+15551234567, phone:555-123-4567",
        "(555) ***-****, 555.***.****, 1-800-***-****, +1 (5**) ***-****, 1 (555) ***-**** ext. 5, tel:+15*********, phone:555-***-****",
    ),
    (
        "+49 30 901820 4111 1111 1111 1111 and +1-555-123-4567 2026-11-28",
        "+49 ** ****** **** 11** **** 1111 and +1-5**-***-**** 2026-11-28",
    ),
    (
        "fe80::1%eth0 ::ffff:192.168.1.1 [2001:db8::8a2e:370:7334]:443 2001:DB8:0:0:8:800:200C:417A 10.0.0.1:8080 192.168.0.0/16",
        "fe80::*%eth0 ::****:***.***.*.* [2001:db8::****:***:****]:443 2001:DB8:*:*:*:***:****:**** 10.0.*.*:8080 192.168.*.*/16",
    ),
    (
        "sk-proj-AbC_dEf-0123456789abcdefghijklmnopqrstuv sk-svcacct-0123456789abcdefghijABC sk-ant-api03-AbCdEf0123456789-AbCdEf_0123456789AA",
        "sk-********************************************* sk-******************************* sk-**********************************************",
    ),
    (
        "github_pat_11ABCDEFG0aBcDeFgHiJkL_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV ghs_0123456789abcdefghijABCDEFGHIJ012345",
        "github_pat_********************************************************************************* ghs_************************************",
    ),
    (
        "glpat-0123456789abcdefghij.01.0z1abcdef glrt-0123456789abcdefghij glptt-0123456789abcdef0123456789abcdef01234567",
        "glpat-********************************* glrt-******************** glptt-****************************************",
    ),
    (
        "xoxb-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx xapp-1-A0123456789-1234567890123-abcdef0123456789 https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
        "xoxb-*************************************************** xapp-******************************************** https://hooks.slack.com/services/********************************************",
    ),
    (
        "rk_live_51AbCdEfGhIjKlMnOp whsec_abcdefghijklmnopqrstuvwxyz012345 hf_AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh",
        "rk_live_****************** whsec_******************************** hf_**********************************",
    ),
    (
        "ASIAIOSFODNN7EXAMPLE aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY SecretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY'",
        "ASIA**************** aws_secret_access_key = **************************************** SecretAccessKey: '****************************************'",
    ),
    (
        "AIzaSyA1234567890abcdefghijklmnopqrstuv AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;EndpointSuffix",
        "AIza*********************************** AccountKey=****************************************************************************************;EndpointSuffix",
    ),
    (
        "https://a.blob.core.windows.net/c?sv=2022-11-02&sig=abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG%3D&se=2026 abc8Q~0123456789abcdefghijklmnopqrstuvwxyzAB",
        "https://a.blob.core.windows.net/c?sv=2022-11-02&sig=**********************************************&se=2026 abc8Q~**************************************",
    ),
    (
        "postgresql://bob:p@ss:w0rd@db.example/x mysql://root:s3cr3t@127.0.0.1:3306/d mongodb+srv://u:pw@c.mongodb.net redis://:s3cr3t@r:6379/0 amqp://guest:guest@mq amqps://u:p%40w@mq",
        "postgresql://bob:********************/x mysql://root:******@127.0.*.*:3306/d mongodb+srv://u:**************** redis://:******@r:6379/0 amqp://guest:*****@mq amqps://u:*****@mq",
    ),
    (
        "Driver={ODBC};Server=x;Uid=sa;Pwd={p;w=1};Encrypt=yes; jdbc:sqlserver://h:1433;user=sa;Password=hunter22; Password = 'a b c'; host=x password='it is' user=y",
        "Driver={ODBC};Server=x;Uid=sa;Pwd={*****};Encrypt=yes; jdbc:sqlserver://h:1433;user=sa;Password=********; Password = '*****'; host=x password='*****' user=y",
    ),
    (
        r#"password: hunter22 password: please choose one \"password\": \"hunter\", PGPASSWORD=x MYSQL_PWD=abc"#,
        r#"password: ******** password: please choose one \"password\": \"******\", PGPASSWORD=* MYSQL_PWD=***"#,
    ),
    (
        "Authorization: Basic dXNlcjpwYXNz, Basic JavaScript tutorial; Authorization: Token 0123456789abcdef0123 x-api-key: 0123456789abcdef0123 X-API-Key=abcDEF0123456789",
        "Authorization: Basic ************, Basic JavaScript tutorial; Authorization: Token ******************** x-api-key: ******************** X-API-Key=****************",
    ),
    (
        "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZKTyKOMTYUmKoTCVJRgckCL9kiMT03JGe.48V1_ALb6US04U3b.5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji.XFBoMYUZodetZdvTiFvSkQ done",
        "eyJ********************************************************************************************************************************************************************************************************************* done",
    ),
    (
        "-----BEGIN PGP PRIVATE KEY BLOCK----- lQHYBF -----END-- AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----********-----END-- AGE-SECRET-KEY-1**********************************************************",
    ),
];

/// Hashes, identifiers, times, versions, orders, amounts: nobody's secrets.
const NO_VALUES: [&str; 4] = [
    r#"@babel/core a@b.c user@localhost "@types/node""#,
    "commit 1f7a7a472abf3dd9643fd615f6da379c4acb3e3a and 9f1c2b34-5d6e-4f70-8a9b-0c1d2e3f4a5b and 550e8400-e29b-41d4-a716-446655440000",
    "2026-11-28T07:16:41.256858Z v1.2.3.4-rc1 ISBN 978-3-16-148410-0 order 100-2003-4004 3.14159265358979 1732780601256 20261128 sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "0.4111111111111111 1e4111111111111111 4111111111111111.5 12:30:45 00:11:22:33:44:55 2026-11-28 10.1.2 1,234,567,890 5,000.00 12.345.678",
];

#[test]
fn values_are_found_in_every_form_that_people_and_machines_give_them() {
    for (text, expected) in FORMS {
        assert_eq!(masked(text), expected);
        for at in 0..=text.len() {
            let (before, behind) = text.as_bytes().split_at(at);
            assert_eq!(masked_in(Format::Text, &[before, behind]), expected, "cut at {at}");
        }
    }
}

#[test]
fn what_only_looks_like_a_value_passes() {
    for text in NO_VALUES {
        assert_eq!(masked(text), text);
    }
}

#[test]
fn a_stored_credential_is_found_in_every_encoding_wherever_it_stands() {
    let secret = "sec/ret+Credential-0123456789?";
    let rules = vec![Rule::Credential(secret.as_bytes().into())];
    let rules = Arc::new(Rules::new(rules, Mode::Mask, HOLD).unwrap());
    // Base64 of `secret`, `u:secret`, `us:secret` and more; hexadecimal; percent-encoded.
    for written in [
        secret.to_owned(),
        "c2VjL3JldCtDcmVkZW50aWFsLTAxMjM0NTY3ODk/".to_owned(),
        "c2VjL3JldCtDcmVkZW50aWFsLTAxMjM0NTY3ODk_".to_owned(),
        "dTpzZWMvcmV0K0NyZWRlbnRpYWwtMDEyMzQ1Njc4OT8=".to_owned(),
        "dXM6c2VjL3JldCtDcmVkZW50aWFsLTAxMjM0NTY3ODk/".to_owned(),
        "eHNlYy9yZXQrQ3JlZGVudGlhbC0wMTIzNDU2Nzg5Pyx5".to_owned(),
        "sec%2Fret%2BCredential-0123456789%3F".to_owned(),
        "sec%2fret%2bCredential-0123456789%3f".to_owned(),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
        secret.bytes().map(|byte| format!("{byte:02X}")).collect(),
    ] {
        for at in 0..=written.len() {
            let mut stream = Stream::new(rules.clone(), Format::Text);
            let (before, behind) = written.as_bytes().split_at(at);
            let out = String::from_utf8(pieces(&mut stream, &[before, behind]).concat()).unwrap();
            let shown = out.bytes().filter(|byte| *byte != b'*').count();
            assert!(shown <= 10, "{written} cut at {at}: {out}");
        }
    }
    // Every split of it over tokens of a model that was asked to repeat it.
    for at in 1..secret.len() {
        let events = [chat(0, &secret[..at]), chat(0, &secret[at..])];
        let parts: Vec<&[u8]> = events.iter().map(|event| event.as_bytes()).collect();
        let mut stream = Stream::new(rules.clone(), Format::Events);
        let out = String::from_utf8(pieces(&mut stream, &parts).concat()).unwrap();
        assert_eq!(contents(&out, 0), format!("sec/{}", "*".repeat(secret.len() - 4)));
    }
    let escaped = secret.replace('/', "\\/").replace('?', "\\u003f");
    let mut stream = Stream::new(rules, Format::Json);
    let out = pieces(&mut stream, &[format!("[\"{escaped}\"]").as_bytes()]).concat();
    assert_eq!(String::from_utf8(out).unwrap(), format!("[\"sec\\/{}\"]", "*".repeat(escaped.len() - 5)));
}
