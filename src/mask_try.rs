//! `staunch mask try`: what a route's masks would do to a body, event by event.

use crate::config;
use crate::mask::{Format, HoldAction, HoldReason, Holding, Kind, Rule, Rules, Span, Stream};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// What to try, on what.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The body: a file, or `-` for standard input.
    file: PathBuf,
    /// The configuration, in TOML.
    #[arg(long, short, env = "STAUNCH_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// The route whose masks are tried.
    #[arg(long, short, value_name = "NAME")]
    route: String,
    /// Which way the body goes.
    #[arg(long, value_enum, default_value_t = DirectionArgument::Down)]
    direction: DirectionArgument,
    /// How the body is read. By default, what its first bytes look like.
    #[arg(long, value_enum, default_value_t = Shape::Auto)]
    format: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DirectionArgument {
    /// An answer's body.
    Down,
    /// A request's body.
    Up,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Shape {
    /// By its first bytes.
    Auto,
    /// One text.
    Text,
    /// JSON, or lines of it.
    Json,
    /// Server-sent events.
    Events,
    /// Form fields, as URLs encode them.
    Form,
}

/// Shows the masked body on `out` and the reasons on `told`. `colour`: masked bytes stand out.
pub fn run(
    arguments: &Arguments,
    out: &mut dyn Write,
    told: &mut dyn Write,
    colour: bool,
) -> Result<u8, String> {
    let loaded = config::load(&arguments.config).map_err(|faults| faults.to_string())?;
    let name = &arguments.route;
    let route = loaded.gateway.called(name).ok_or_else(|| {
        let names: Vec<_> = loaded.summary.routes.iter().map(|route| route.name.as_str()).collect();
        format!("there is no route called {name:?}; there are {}", names.join(", "))
    })?;
    let masks = route.masks.as_deref();
    let mask = match arguments.direction {
        DirectionArgument::Down => masks.and_then(|masks| masks.down.as_ref()),
        DirectionArgument::Up => masks.and_then(|masks| masks.up.as_ref()),
    };
    let mask = mask.ok_or_else(|| format!("route {name:?} masks nothing in that direction; write mask = {{ down = [\"…\"], up = [\"…\"] }} on it, or try the other"))?;
    let body = read(&arguments.file).map_err(|fault| format!("{}: {fault}", arguments.file.display()))?;
    let format = match arguments.format {
        Shape::Auto => guess(&body),
        Shape::Text => Format::Text,
        Shape::Json => Format::Json,
        Shape::Events => Format::Events,
        Shape::Form => Format::Form,
    };
    let fault = |fault: io::Error| fault.to_string();
    let tried = Tried::new(Stream::new(mask.rules.clone(), format), split(&body, format))?;
    show(out, &tried.shown, &tried.spans, colour).map_err(fault)?;
    tried.explain(told, &mask.rules, format).map_err(fault)?;
    Ok(0)
}

/// What came of a body.
#[derive(Default)]
struct Tried {
    shown: Vec<u8>,
    spans: Vec<Span>,
    values: u32,
    /// Events, or pieces.
    events: usize,
    /// How many of them ended held, and how many at most in a row.
    ended_held: usize,
    longest: usize,
    held: Vec<Held>,
}

/// Bytes that waited for a verdict.
struct Held {
    offset: u64,
    reason: HoldReason,
    /// The event in which they came, and the one that let them go; `None`: the body's end.
    from: usize,
    to: Option<usize>,
    /// Bytes that waited, with all behind them.
    bytes: usize,
}

impl Tried {
    /// Lets a body through, event by event. `Err` says at which it was cut.
    fn new(mut stream: Stream, events: Vec<&[u8]>) -> Result<Tried, String> {
        stream.keep_spans();
        let (mut tried, mut run) = (Tried::default(), 0);
        for event in events {
            let mut event = event.to_vec();
            tried.events += 1;
            let passed = stream.take(&mut event, Kind::Payload).map_err(|fault| {
                format!("{fault}: cut in event {} of the body, and nothing behind it passes", tried.events)
            })?;
            stream.release(passed.held, |bytes| tried.shown.extend_from_slice(bytes));
            tried.shown.extend_from_slice(&event[..passed.at_hand]);
            let holding = stream.holding();
            run = if holding.is_some() { run + 1 } else { 0 };
            tried.ended_held += usize::from(run > 0);
            tried.longest = tried.longest.max(run);
            tried.note(holding);
        }
        let left = stream.finish();
        stream.release(left, |bytes| tried.shown.extend_from_slice(bytes));
        tried.spans = stream.take_spans();
        tried.values = stream.take_counts().0.iter().sum();
        Ok(tried)
    }

    /// Notes what is held behind an event.
    fn note(&mut self, holding: Option<Holding>) {
        let now = self.events;
        let last = self.held.last_mut().filter(|last| last.to.is_none());
        match (last, holding) {
            (Some(last), Some(holding)) if last.offset == holding.offset && last.reason == holding.reason => {
                last.bytes = last.bytes.max(holding.length);
            }
            (last, holding) => {
                last.into_iter().for_each(|last| last.to = Some(now));
                self.held.extend(holding.map(|Holding { offset, length, reason }| Held {
                    offset,
                    reason,
                    from: now,
                    to: None,
                    bytes: length,
                }));
            }
        }
    }

    /// Says what was overwritten, what was held, and why.
    fn explain(&self, told: &mut dyn Write, rules: &Rules, format: Format) -> io::Result<()> {
        let name = |rule: usize| rules.rules().get(rule).map_or("", Rule::name);
        writeln!(told, "\n  offset  bytes  rule")?;
        for span in &self.spans {
            writeln!(told, "{:>8}  {:>5}  {}", span.offset, span.length, name(span.rule))?;
        }
        let (event, events) = match format {
            Format::Text | Format::Form => ("piece", "pieces of 16 bytes"),
            _ => ("event", "events"),
        };
        if !self.held.is_empty() {
            writeln!(told, "\n    held  bytes  from {event}  until  because of")?;
        }
        for held in &self.held {
            let until = held.to.map_or("the end".into(), |to| to.to_string());
            let because = match held.reason {
                HoldReason::Rule(rule) => format!("{}, {}", name(rule), self.verdict(held, rule)),
                HoldReason::Escape => "an escape that is not whole".into(),
                HoldReason::Event => "a piece of a text, which passes with its event".into(),
                HoldReason::Blank => "white space, behind which it shows how the text is read".into(),
                HoldReason::Message => "a message that is not whole".into(),
            };
            let place = format!(
                "{:>8}  {:>5}  {:>from$}",
                held.offset,
                held.bytes,
                held.from,
                from = 5 + event.len()
            );
            writeln!(told, "{place}  {until:>5}  {because}")?;
        }
        let Tried { values, ended_held, longest, .. } = self;
        writeln!(
            told,
            "{values} values; of {} {events}, {ended_held} ended held, at most {longest} in a row",
            self.events
        )?;
        let hold = rules.hold;
        let action = match hold.action {
            HoldAction::Mask => "overwritten",
            HoldAction::Pass => "let go as it is",
            HoldAction::Cut => "cut, with its stream",
        };
        writeln!(told, "what is held for more than {} events or {:?} is {action}", hold.events, hold.time)
    }

    /// What became of what was held for this rule.
    fn verdict(&self, held: &Held, rule: usize) -> &'static str {
        let ours = |span: &&Span| span.rule == rule && span.offset >= held.offset;
        let reach = held.offset + held.bytes as u64;
        match self.spans.iter().find(ours) {
            Some(span) if span.offset < reach => "and overwritten",
            _ => "and passed: it was none",
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    match file.as_os_str() == "-" {
        true => io::stdin().lock().read_to_end(&mut body)?,
        false => std::fs::File::open(file)?.read_to_end(&mut body)?,
    };
    Ok(body)
}

fn guess(body: &[u8]) -> Format {
    let text = body.trim_ascii_start();
    match text.first() {
        Some(b'{' | b'[') => Format::Json,
        _ if [&b"data:"[..], b"event:", b"id:", b":"].iter().any(|field| text.starts_with(field)) => {
            Format::Events
        }
        _ => Format::Text,
    }
}

/// The body as it would arrive: an event at a time, or a few bytes.
fn split(body: &[u8], format: Format) -> Vec<&[u8]> {
    match format {
        Format::Text
        | Format::Form
        | Format::Frames
        | Format::Grpc
        | Format::Message
        | Format::Parts
        | Format::Values => body.chunks(16).collect(),
        Format::Json => body.split_inclusive(|byte| *byte == b'\n').collect(),
        Format::Events => {
            let (mut pieces, mut from) = (Vec::new(), 0);
            for end in memchr::memmem::find_iter(body, b"\n\n").map(|at| at + 2) {
                pieces.push(&body[from..end]);
                from = end;
            }
            pieces.push(&body[from..]);
            pieces
        }
    }
}

fn show(out: &mut dyn Write, body: &[u8], spans: &[Span], colour: bool) -> io::Result<()> {
    let mut at = 0;
    for span in spans.iter().filter(|_| colour) {
        let from = (span.offset as usize).clamp(at, body.len());
        let to = (from + span.length).min(body.len());
        out.write_all(&body[at..from])?;
        out.write_all(b"\x1b[7m")?;
        out.write_all(&body[from..to])?;
        out.write_all(b"\x1b[0m")?;
        at = to;
    }
    out.write_all(&body[at..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{Detector, HoldLimit, Mode};
    use std::sync::Arc;
    use std::time::Duration;

    fn tried(body: &str, format: Format) -> Result<String, String> {
        let hold = HoldLimit { events: 64, time: Duration::from_secs(5), action: HoldAction::Mask };
        let known = [Detector::Card, Detector::Email].map(Rule::Known).into();
        let rules = Arc::new(Rules::new(known, Mode::Mask, hold)?);
        let tried = Tried::new(Stream::new(rules.clone(), format), split(body.as_bytes(), format))?;
        let mut told = Vec::new();
        tried.explain(&mut told, &rules, format).map_err(|fault| fault.to_string())?;
        String::from_utf8([tried.shown, told].concat()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_is_overwritten_and_what_is_held_are_shown_with_their_places_and_reasons() {
        // Cut behind "11 11", behind "jane@b", and at the end.
        let shown = tried("card 4111 1111 1111 1111 of jane@b and of a@b", Format::Text).unwrap();
        let expected = "\
card 4111 11** **** 1111 of jane@b and of a@b
  offset  bytes  rule
      12      2  card
      15      4  card

    held  bytes  from piece  until  because of
      12      4           1      2  card, and overwritten
      43      2           3  the end  email, and passed: it was none
1 values; of 3 pieces of 16 bytes, 2 ended held, at most 1 in a row
what is held for more than 64 events or 5s is overwritten
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_value_over_events_is_shown_with_the_events_that_it_is_held_over() {
        let event =
            |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
        let body: String =
            ["Pay", " 411", "1", " ", "111", "1 ", "1111 ", "1111", " now"].map(event).concat();
        let shown = tried(&body, Format::Events).unwrap();
        let held: Vec<&str> = shown.lines().filter(|line| line.ends_with("card, and overwritten")).collect();
        let [held] = held[..] else { panic!("{shown}") };
        let parts: Vec<&str> = held.split_whitespace().collect();
        assert_eq!((parts[2], parts[3]), ("5", "9"), "{shown}");
        assert_eq!(body.as_bytes()[parts[0].parse::<usize>().unwrap()..][..2], *b"1\"", "{shown}");
        assert!(shown.contains("1 values; of 10 events, 4 ended held, at most 4 in a row"), "{shown}");
    }

    #[test]
    fn a_body_that_cannot_be_followed_is_said_to_be_cut_and_where() {
        let fault = tried("\u{1}\0\0\0", Format::Json).unwrap_err();
        assert!(fault.ends_with("cut in event 1 of the body, and nothing behind it passes"), "{fault}");
    }
}
