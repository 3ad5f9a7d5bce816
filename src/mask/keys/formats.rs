//! What is known of key formats: their prefixes, and the names that stand before those that have none.

use crate::mask::cursor::Class;
use crate::mask::detector::Detector;

/// A kind of secret that begins with fixed text.
#[derive(Debug)]
pub(in crate::mask) struct Key {
    /// What it begins with; may pass.
    pub(in crate::mask) prefix: &'static [u8],
    /// What it consists of.
    pub(super) class: Class,
    /// So many bytes at least, or it is none.
    pub(super) least: usize,
    pub(super) shape: Shape,
}

/// What a kind of secret asks for besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A word of its own, of any length from `least`.
    Open,
    /// A word of its own, of exactly `least` bytes.
    Exact,
    /// As [`Shape::Open`], with a digit or a capital among the first `least`: words of a language have none.
    Mixed,
    /// As [`Shape::Open`], also at the end of a word.
    Suffix,
    /// Read in a way of its own.
    Own,
}

const fn open(prefix: &'static [u8], class: Class, least: usize) -> Key {
    Key { prefix, class, least, shape: Shape::Open }
}
const fn exact(prefix: &'static [u8], class: Class, least: usize) -> Key {
    Key { prefix, class, least, shape: Shape::Exact }
}
const fn mixed(prefix: &'static [u8], class: Class, least: usize) -> Key {
    Key { prefix, class, least, shape: Shape::Mixed }
}
const fn suffix(prefix: &'static [u8], class: Class, least: usize) -> Key {
    Key { prefix, class, least, shape: Shape::Suffix }
}
const fn own(prefix: &'static [u8], class: Class) -> Key {
    Key { prefix, class, least: 0, shape: Shape::Own }
}

/// What begins a secret that only its place tells.
pub(super) const USER_INFO: &[u8] = b"://";
pub(super) const BASIC: &[u8] = b"asic ";

/// Formats of each detector.
pub(in crate::mask) const KEYS: [(Detector, &[Key]); 14] = [
    (
        Detector::Aws,
        &[
            exact(b"AKIA", Class::Upper, 16),
            exact(b"ASIA", Class::Upper, 16),
            exact(b"ABIA", Class::Upper, 16),
            exact(b"ACCA", Class::Upper, 16),
        ],
    ),
    (
        Detector::Gcp,
        &[
            exact(b"AIza", Class::Word, 35),
            open(b"ya29.", Class::Dotted, 20),
            open(b"GOCSPX-", Class::Word, 28),
            open(b"1//0", Class::Word, 40),
            open(b"AQ.Ab", Class::Dotted, 30),
        ],
    ),
    (
        Detector::Azure,
        &[
            // The signature of a shared access signature: base64, as URLs encode it.
            suffix(b"sig=", Class::Value, 40),
            // The secret of an Entra application has three characters before these.
            suffix(b"7Q~", Class::Token, 31),
            suffix(b"8Q~", Class::Token, 31),
            suffix(b"9Q~", Class::Token, 31),
        ],
    ),
    (
        Detector::Github,
        &[
            open(b"ghp_", Class::Word, 36),
            open(b"gho_", Class::Word, 36),
            // Those of applications may be JSON Web Tokens behind their prefix.
            open(b"ghu_", Class::Dotted, 36),
            open(b"ghs_", Class::Dotted, 36),
            open(b"ghr_", Class::Word, 36),
            open(b"github_pat_", Class::Word, 40),
        ],
    ),
    (
        Detector::Gitlab,
        &[
            open(b"glpat-", Class::Dotted, 20),
            open(b"gldt-", Class::Dotted, 20),
            open(b"glrt-", Class::Dotted, 20),
            open(b"glrtr-", Class::Dotted, 20),
            open(b"glptt-", Class::Dotted, 20),
            open(b"glcbt-", Class::Dotted, 20),
            open(b"glft-", Class::Dotted, 20),
            open(b"glimt-", Class::Dotted, 20),
            open(b"glagent-", Class::Dotted, 20),
            open(b"gloas-", Class::Dotted, 20),
            open(b"glsoat-", Class::Dotted, 20),
            open(b"glffct-", Class::Dotted, 20),
            open(b"glwt-", Class::Dotted, 20),
            exact(b"GR1348941", Class::Word, 20),
        ],
    ),
    (
        Detector::Slack,
        &[
            open(b"xoxb-", Class::Word, 20),
            open(b"xoxp-", Class::Word, 20),
            open(b"xoxa-", Class::Word, 20),
            open(b"xoxr-", Class::Word, 20),
            open(b"xoxs-", Class::Word, 20),
            open(b"xoxo-", Class::Word, 20),
            open(b"xoxc-", Class::Word, 20),
            // The token of a browser's cookie, as URLs encode it.
            open(b"xoxd-", Class::Value, 20),
            open(b"xoxe-", Class::Word, 20),
            open(b"xoxe.xox", Class::Dotted, 20),
            open(b"xapp-", Class::Word, 20),
            open(b"xwfp-", Class::Word, 20),
            suffix(b"hooks.slack.com/services/", Class::Token, 20),
            suffix(b"hooks.slack.com/workflows/", Class::Token, 20),
            suffix(b"hooks.slack.com/triggers/", Class::Token, 20),
        ],
    ),
    (
        Detector::Stripe,
        &[
            open(b"sk_live_", Class::Word, 16),
            open(b"sk_test_", Class::Word, 16),
            open(b"rk_live_", Class::Word, 16),
            open(b"rk_test_", Class::Word, 16),
            open(b"sk_org_", Class::Word, 16),
            open(b"whsec_", Class::Token, 24),
        ],
    ),
    (Detector::Openai, &[mixed(b"sk-", Class::Word, 20)]),
    (Detector::Anthropic, &[open(b"sk-ant-", Class::Word, 16)]),
    (Detector::HuggingFace, &[open(b"hf_", Class::Word, 30), open(b"api_org_", Class::Word, 30)]),
    (Detector::Jwt, &[own(b"eyJ", Class::Dotted)]),
    (Detector::PrivateKey, &[own(b"-----BEGIN ", Class::Word), open(b"AGE-SECRET-KEY-1", Class::Upper, 40)]),
    (Detector::Password, &[own(USER_INFO, Class::Value)]),
    (
        Detector::Authorization,
        &[
            mixed(b"Bearer ", Class::Token, 16),
            mixed(b"bearer ", Class::Token, 16),
            mixed(b"Token ", Class::Token, 16),
            own(BASIC, Class::Token),
        ],
    ),
];

/// A secret that stands behind a name and `=` or `:`, in JSON as the member of that name.
#[derive(Debug)]
pub(in crate::mask) struct Setting {
    pub(in crate::mask) detector: Detector,
    /// In lower case; its words may be joined by `_`, `-` or nothing.
    name: &'static [u8],
    pub(super) class: Class,
    pub(super) least: usize,
}

const fn setting(detector: Detector, name: &'static [u8], class: Class, least: usize) -> Setting {
    Setting { detector, name, class, least }
}

/// What is known of names. The first that fits counts.
const SETTINGS: [Setting; 16] = [
    setting(Detector::Aws, b"secretaccesskey", Class::Token, 40),
    setting(Detector::Aws, b"sessiontoken", Class::Token, 40),
    setting(Detector::Azure, b"accountkey", Class::Token, 40),
    setting(Detector::Azure, b"sharedaccesskey", Class::Token, 40),
    setting(Detector::Gcp, b"privatekey", Class::Token, 40),
    setting(Detector::Password, b"password", Class::Value, 1),
    setting(Detector::Password, b"passwd", Class::Value, 1),
    setting(Detector::Password, b"pwd", Class::Value, 1),
    setting(Detector::Password, b"passphrase", Class::Value, 1),
    setting(Detector::Authorization, b"apikey", Class::Token, 16),
    setting(Detector::Authorization, b"clientsecret", Class::Token, 16),
    setting(Detector::Authorization, b"secretkey", Class::Token, 16),
    setting(Detector::Authorization, b"accesstoken", Class::Token, 16),
    setting(Detector::Authorization, b"refreshtoken", Class::Token, 16),
    setting(Detector::Authorization, b"authtoken", Class::Token, 16),
    setting(Detector::Authorization, b"bearertoken", Class::Token, 16),
];

/// The setting whose name this text ends with, however it is written.
pub(super) fn setting_named(text: &[u8]) -> Option<&'static Setting> {
    // Nearly every text ends with no such letter.
    if !text.last().is_some_and(|last| b"ydnteYDNTE".contains(last)) {
        return None;
    }
    SETTINGS.iter().find(|setting| {
        let mut rest = text.iter().rev();
        setting.name.iter().rev().all(|letter| {
            let mut next = rest.next();
            if next.is_some_and(|byte| matches!(byte, b'_' | b'-')) {
                next = rest.next();
            }
            next.is_some_and(|byte| byte.to_ascii_lowercase() == *letter)
        })
    })
}

/// True for detectors that know names.
pub(in crate::mask) fn has_settings(detector: Detector) -> bool {
    SETTINGS.iter().any(|setting| setting.detector == detector)
}

/// True where a JSON member of this name has a secret of this kind.
pub(in crate::mask) fn is_secret_member(detector: Detector, name: &[u8]) -> bool {
    setting_named(name).is_some_and(|setting| setting.detector == detector)
}
