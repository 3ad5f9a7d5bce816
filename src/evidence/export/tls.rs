//! The TLS 1.3 connection of a capture: a fabricated handshake, the recorded records of the server, the client's sealed anew.

use super::source::Source;
use crate::evidence::EvidenceFault;
use crate::evidence::transcript::Protocol;
use crate::recording::format::frame::Plane;
use crate::recording::format::traffic::TrafficSecret;
use crate::recording::reader::{Event, Frame, Player};
use crate::tls::record::{Content, RecordFault, Sealer, Suite};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt::Write;

/// Records that may stand in for those that came before the first recorded one, or for those of a gap.
const MAX_FILLERS: u64 = 2_000;

/// Both directions.
pub(super) struct Legs {
    suite: Suite,
    random: [u8; 32],
    /// Handshake secrets and first application secrets, by plane of the sender.
    handshake: [TrafficSecret; 2],
    application: [TrafficSecret; 2],
    /// Seals what is fabricated.
    sealers: [Sealer; 2],
    /// Where the server's own records stand; `None` where they are sealed anew, too.
    recorded: Option<Recorded>,
}

struct Recorded {
    epoch: u16,
    number: u64,
    secret: TrafficSecret,
    ends_in_key_update: bool,
    is_begun: bool,
}

impl Legs {
    pub(super) fn new(source: &Source<'_>, protocol: Protocol) -> Result<Self, EvidenceFault> {
        // The first secret and sequence number of what the server sent.
        let (mut first, mut suite, mut has_holes) = (None, None, false);
        let mut next = None;
        source.play("reading segment", |frame, player, event| {
            let Event::Data(plane, data) = event else {
                has_holes |= matches!(event, Event::Damaged(_));
                return;
            };
            let secret = player.secret(frame.head.session, plane);
            suite = suite.or(secret.map(TrafficSecret::suite));
            if plane == Plane::Down {
                has_holes |= data.is_none();
                let number = u64::from(frame.head.number);
                if let (None, Some(secret)) = (&first, secret) {
                    first = Some((copy(secret), frame.head.epoch, number));
                }
                let far = |(epoch, after): (u16, u64)| {
                    epoch == frame.head.epoch && number.saturating_sub(after) > MAX_FILLERS
                };
                has_holes |= next.is_some_and(far);
                next = Some((frame.head.epoch, number + records(&frame.payload)));
            }
        })?;
        let suite = first.as_ref().map(|(secret, _, _)| secret.suite()).or(suite).unwrap_or(Suite::Aes128Gcm);
        // A login that is fabricated within TLS needs numbers of its own.
        let is_original = !has_holes && protocol != Protocol::Mysql;
        let recorded = first.filter(|(_, _, number)| is_original && *number <= MAX_FILLERS);
        let recorded = recorded.map(|(secret, epoch, number)| Recorded {
            epoch,
            number,
            secret,
            ends_in_key_update: false,
            is_begun: false,
        });
        let down = recorded.as_ref().map_or_else(|| random_secret(suite), |recorded| copy(&recorded.secret));
        let up = random_secret(suite);
        let sealers = [sealer(&down, 0)?, sealer(&up, 0)?];
        Ok(Legs {
            suite,
            random: random(),
            handshake: [random_secret(suite), random_secret(suite)],
            application: [down, up],
            sealers,
            recorded,
        })
    }

    /// Whether the server's records are original.
    pub(super) fn describe(&self) -> String {
        match &self.recorded {
            Some(recorded) if recorded.number > 0 => format!(
                "The server's records are those that went over the wire, from number {} on; empty ones stand for those before.",
                recorded.number
            ),
            Some(_) => "The server's records are those that went over the wire.".into(),
            None => "The server's records are sealed anew, too.".into(),
        }
    }

    /// The secrets, as tools read them (SSLKEYLOGFILE).
    pub(super) fn key_log(&self) -> String {
        let lines = [
            ("CLIENT_HANDSHAKE_TRAFFIC_SECRET", &self.handshake[Plane::Up.index()]),
            ("SERVER_HANDSHAKE_TRAFFIC_SECRET", &self.handshake[Plane::Down.index()]),
            ("CLIENT_TRAFFIC_SECRET_0", &self.application[Plane::Up.index()]),
            ("SERVER_TRAFFIC_SECRET_0", &self.application[Plane::Down.index()]),
        ];
        lines.iter().fold(String::new(), |mut text, (name, secret)| {
            let _ = writeln!(text, "{name} {} {}", hex(&self.random), hex(secret.expose()));
            text
        })
    }

    /// The handshake, and what stands for records before the first recorded one.
    pub(super) fn handshake(
        &mut self,
        name: &str,
        protocol: Protocol,
    ) -> Result<Vec<(Plane, Vec<u8>)>, EvidenceFault> {
        let alpn: &[u8] = match protocol {
            Protocol::Http1 => b"http/1.1",
            Protocol::Http2 => b"h2",
            Protocol::Postgres => b"postgresql",
            _ => b"",
        };
        let suite = match self.suite {
            Suite::Aes128Gcm => [0x13, 0x01],
            Suite::Aes256Gcm => [0x13, 0x02],
            Suite::Chacha20Poly1305 => [0x13, 0x03],
        };
        let finished = message(20, &vec![0; if self.suite == Suite::Aes256Gcm { 48 } else { 32 }]);
        let mut down = plain_record(&server_hello(suite));
        let [down_secret, up_secret] = &self.handshake;
        let encrypted = [message(8, &prefixed(&alpn_extension(alpn))), finished.clone()].concat();
        seal(&mut sealer(down_secret, 0)?, Content::Handshake, &encrypted, &mut down)?;
        let mut up = Vec::new();
        seal(&mut sealer(up_secret, 0)?, Content::Handshake, &finished, &mut up)?;
        let hello = plain_record(&client_hello(&self.random, suite, name, alpn));
        let mut said = vec![(Plane::Up, hello), (Plane::Down, down), (Plane::Up, up)];
        let mut fillers = Vec::new();
        if let Some(recorded) = &self.recorded {
            self.sealers[Plane::Down.index()] = sealer(&recorded.secret, 0)?;
            for _ in 0..recorded.number {
                self.sealers[Plane::Down.index()].seal_empty(&mut fillers).map_err(not_sealed)?;
            }
        }
        said.push((Plane::Down, fillers));
        Ok(said)
    }

    /// Fabricated bytes.
    pub(super) fn seal(&mut self, plane: Plane, bytes: &[u8]) -> Result<Vec<u8>, EvidenceFault> {
        let mut out = Vec::new();
        seal(&mut self.sealers[plane.index()], Content::Data, bytes, &mut out)?;
        Ok(out)
    }

    /// A frame's records as they are to stand in the capture.
    pub(super) fn carry(
        &mut self,
        plane: Plane,
        frame: &Frame,
        player: &Player,
        data: &[u8],
    ) -> Result<Vec<u8>, EvidenceFault> {
        let Some(recorded) = self.recorded.as_mut().filter(|_| plane == Plane::Down) else {
            return self.seal(plane, data);
        };
        let mut out = Vec::new();
        // Key updates that no record says: of planes that the gateway sealed.
        while recorded.epoch < frame.head.epoch {
            if !std::mem::take(&mut recorded.ends_in_key_update) && recorded.is_begun {
                let mut sealer = sealer(&recorded.secret, recorded.number)?;
                seal(&mut sealer, Content::Handshake, &[24, 0, 0, 1, 0], &mut out)?;
            }
            recorded.secret = recorded.secret.next();
            recorded.epoch += 1;
            recorded.number = 0;
        }
        let mut sealer = sealer(&recorded.secret, recorded.number)?;
        for _ in recorded.number..u64::from(frame.head.number) {
            sealer.seal_empty(&mut out).map_err(not_sealed)?;
        }
        out.extend_from_slice(&frame.payload);
        recorded.number = u64::from(frame.head.number) + records(&frame.payload);
        recorded.ends_in_key_update = player.ends_in_key_update(frame.head.session, plane);
        recorded.is_begun = true;
        Ok(out)
    }
}

fn copy(secret: &TrafficSecret) -> TrafficSecret {
    TrafficSecret::new(secret.suite(), secret.expose()).expect("of its own suite")
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system has random bytes");
    bytes
}

fn random_secret(suite: Suite) -> TrafficSecret {
    let bytes = random::<48>();
    TrafficSecret::new(suite, &bytes[..TrafficSecret::length(suite)]).expect("of the suite's length")
}

fn sealer(secret: &TrafficSecret, number: u64) -> Result<Sealer, EvidenceFault> {
    let sealer = Sealer::new(&secret.key().secrets(), number, u64::MAX);
    sealer.ok_or_else(|| EvidenceFault::Refused("a secret of another length".into()))
}

fn seal(sealer: &mut Sealer, content: Content, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EvidenceFault> {
    sealer.seal(content, bytes, out).map_err(not_sealed)
}

fn not_sealed(_: RecordFault) -> EvidenceFault {
    EvidenceFault::Refused("a record cannot be sealed".into())
}

/// Whole records in a payload.
fn records(mut payload: &[u8]) -> u64 {
    let mut count = 0;
    while let Some([_, _, _, high, low]) = payload.first_chunk::<5>() {
        let length = 5 + usize::from(u16::from_be_bytes([*high, *low]));
        payload = payload.get(length..).unwrap_or_default();
        count += 1;
    }
    count
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn plain_record(message: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &(message.len() as u16).to_be_bytes(), message].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

/// Bytes behind their length in two.
fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), prefixed(body)].concat()
}

fn alpn_extension(alpn: &[u8]) -> Vec<u8> {
    match alpn {
        [] => Vec::new(),
        alpn => extension(16, &prefixed(&[&[alpn.len() as u8], alpn].concat())),
    }
}

fn key_share() -> Vec<u8> {
    [&[0, 0x1d, 0, 32][..], &random::<32>()].concat()
}

fn client_hello(random: &[u8; 32], suite: [u8; 2], name: &str, alpn: &[u8]) -> Vec<u8> {
    let mut extensions = Vec::new();
    if !name.is_empty() {
        extensions.extend(extension(0, &prefixed(&[&[0][..], &prefixed(name.as_bytes())].concat())));
    }
    extensions.extend(extension(10, &prefixed(&[0, 0x1d])));
    extensions.extend(extension(13, &prefixed(&[4, 3])));
    extensions.extend(extension(43, &[2, 3, 4]));
    extensions.extend(extension(51, &prefixed(&key_share())));
    extensions.extend(alpn_extension(alpn));
    let body = [&[3, 3][..], random, &[0, 0, 2], &suite, &[1, 0], &prefixed(&extensions)].concat();
    message(1, &body)
}

fn server_hello(suite: [u8; 2]) -> Vec<u8> {
    let extensions = [extension(43, &[3, 4]), extension(51, &key_share())].concat();
    let body = [&[3, 3][..], &random::<32>(), &[0], &suite, &[0], &prefixed(&extensions)].concat();
    message(2, &body)
}
