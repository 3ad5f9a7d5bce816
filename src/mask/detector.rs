//! The built-in detectors: names, what may pass before their hold point, and what they do not find.

/// A kind of value that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Detector {
    /// Payment cards.
    Card,
    /// International bank account numbers.
    Iban,
    /// E-mail addresses.
    Email,
    /// US social security numbers.
    Ssn,
    /// Telephone numbers.
    Phone,
    /// IPv4 and IPv6 addresses.
    Ip,
    /// Keys of Amazon Web Services.
    Aws,
    /// Keys of Google Cloud.
    Gcp,
    /// Keys of Azure.
    Azure,
    /// Tokens of GitHub.
    Github,
    /// Tokens of GitLab.
    Gitlab,
    /// Tokens of Slack.
    Slack,
    /// Keys of Stripe.
    Stripe,
    /// Keys of OpenAI.
    Openai,
    /// Keys of Anthropic.
    Anthropic,
    /// Tokens of Hugging Face.
    HuggingFace,
    /// JSON Web Tokens.
    Jwt,
    /// Private keys in PEM.
    PrivateKey,
    /// Passwords in connection strings.
    Password,
    /// `Bearer` and `Basic` credentials in text.
    Authorization,
}

/// What a detector is, for the configuration and for `check`.
struct About {
    detector: Detector,
    name: &'static str,
    /// What may have passed before a value is recognised.
    passes: &'static str,
    /// What it does not find.
    misses: &'static str,
}

const fn about(detector: Detector, name: &'static str, passes: &'static str, misses: &'static str) -> About {
    About { detector, name, passes, misses }
}

const ABOUT: [About; 20] = [
    about(
        Detector::Card,
        "card",
        "its first six digits; its last four are shown",
        "numbers without Luhn's digit, or grouped by anything but single spaces or dashes of any width",
    ),
    about(
        Detector::Iban,
        "iban",
        "its country and check digits",
        "numbers of mixed case, or whose check digits are wrong",
    ),
    about(Detector::Email, "email", "what stands before its @", "addresses at a host without a dot"),
    about(Detector::Ssn, "ssn", "its area number", "numbers without separators"),
    about(
        Detector::Phone,
        "phone",
        "+ and two digits, or the area's code",
        "national numbers without separators",
    ),
    about(
        Detector::Ip,
        "ip",
        "its first two numbers or groups",
        "addresses in other notations than the usual",
    ),
    about(
        Detector::Aws,
        "aws",
        "its prefix (AKIA, ASIA), or its name (SecretAccessKey, aws_session_token …)",
        "secret access keys without their name",
    ),
    about(Detector::Gcp, "gcp", "its prefix (AIza, ya29., GOCSPX-, 1//0)", "what has no such prefix"),
    about(
        Detector::Azure,
        "azure",
        "its name (AccountKey, SharedAccessKey, sig=), or an application's first characters up to Q~",
        "keys without their name",
    ),
    about(
        Detector::Github,
        "github",
        "its prefix (ghp_, gho_, ghu_, ghs_, ghr_, github_pat_)",
        "what has no such prefix",
    ),
    about(
        Detector::Gitlab,
        "gitlab",
        "its prefix (glpat-, gldt-, glrt-, glptt-, glcbt- …)",
        "what has no such prefix",
    ),
    about(
        Detector::Slack,
        "slack",
        "its prefix (xoxb-, xoxp-, xapp-, hooks.slack.com/services/ …)",
        "what has no such prefix",
    ),
    about(
        Detector::Stripe,
        "stripe",
        "its prefix (sk_live_, rk_live_, sk_test_, whsec_ …)",
        "publishable keys",
    ),
    about(Detector::Openai, "openai", "sk-", "what has no such prefix"),
    about(Detector::Anthropic, "anthropic", "sk-ant-", "what has no such prefix"),
    about(Detector::HuggingFace, "huggingface", "hf_", "what has no such prefix"),
    about(Detector::Jwt, "jwt", "eyJ", "tokens whose header is longer than 1 KiB"),
    about(
        Detector::PrivateKey,
        "private-key",
        "its label, -----BEGIN … PRIVATE KEY-----",
        "keys that are not in PEM or of age",
    ),
    about(
        Detector::Password,
        "password",
        "the user's name, or the setting's (password, passwd, pwd, passphrase)",
        "passwords that no URL and no such name goes before",
    ),
    about(
        Detector::Authorization,
        "authorization",
        "Bearer, Basic or Token, or the name (api_key, client_secret, access_token …)",
        "credentials without such a word",
    ),
];

/// Names of groups of detectors in the configuration.
const GROUPS: [(&str, &[Detector]); 2] = [
    (
        "personal",
        &[Detector::Card, Detector::Iban, Detector::Email, Detector::Ssn, Detector::Phone, Detector::Ip],
    ),
    (
        "keys",
        &[
            Detector::Aws,
            Detector::Gcp,
            Detector::Azure,
            Detector::Github,
            Detector::Gitlab,
            Detector::Slack,
            Detector::Stripe,
            Detector::Openai,
            Detector::Anthropic,
            Detector::HuggingFace,
            Detector::Jwt,
            Detector::PrivateKey,
            Detector::Password,
            Detector::Authorization,
        ],
    ),
];

impl Detector {
    /// All that are known, in the order of the manual.
    pub fn all() -> impl Iterator<Item = Detector> {
        ABOUT.iter().map(|about| about.detector)
    }

    /// The detectors that a word of the configuration stands for.
    pub fn named(word: &str) -> Option<Vec<Detector>> {
        let group = GROUPS.iter().find(|(name, _)| *name == word).map(|(_, all)| all.to_vec());
        group.or_else(|| Some(vec![ABOUT.iter().find(|about| about.name == word)?.detector]))
    }

    /// Every word that [`Detector::named`] knows.
    pub fn words() -> Vec<&'static str> {
        GROUPS.iter().map(|(name, _)| *name).chain(ABOUT.iter().map(|about| about.name)).collect()
    }

    fn about(self) -> &'static About {
        // The table has every detector; a test says so.
        ABOUT.iter().find(|about| about.detector == self).unwrap_or(&ABOUT[0])
    }

    /// The word in the configuration, logs and metrics.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// What may have passed before a value is recognised.
    pub(super) fn passes(self) -> &'static str {
        self.about().passes
    }

    /// What it does not find.
    pub(super) fn misses(self) -> &'static str {
        self.about().misses
    }
}
