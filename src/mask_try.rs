//! `staunch mask try`: what a route's masks would do to a body, event by event.

use crate::config;
use crate::mask::{Format, Kind, Rule, Span, Stream};
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
    let mut stream = Stream::new(mask.rules.clone(), format);
    stream.keep_spans();
    let (mut shown, mut pieces, mut held, mut run, mut longest) = (Vec::new(), 0, 0, 0, 0);
    for piece in split(&body, format) {
        let mut piece = piece.to_vec();
        let passed = stream.take(&mut piece, Kind::Payload)?;
        stream.release(passed.held, |bytes| shown.extend_from_slice(bytes));
        shown.extend_from_slice(&piece[..passed.at_hand]);
        pieces += 1;
        run = if stream.is_holding() { run + 1 } else { 0 };
        held += u32::from(run > 0);
        longest = longest.max(run);
    }
    let left = stream.finish();
    stream.release(left, |bytes| shown.extend_from_slice(bytes));
    let spans = stream.take_spans();
    let fault = |fault: io::Error| fault.to_string();
    show(out, &shown, &spans, colour).map_err(fault)?;
    let (counts, _) = stream.take_counts();
    let reason = |span: &Span| {
        let rule = stream.rules().rules().get(span.rule).map_or("", Rule::name);
        format!("{:>8}  {:>5}  {rule}", span.offset, span.length)
    };
    let values: u32 = counts.iter().sum();
    writeln!(told, "\n  offset  bytes  rule").map_err(fault)?;
    spans.iter().try_for_each(|span| writeln!(told, "{}", reason(span))).map_err(fault)?;
    let word = if matches!(format, Format::Text | Format::Form) { "pieces of 16 bytes" } else { "events" };
    writeln!(told, "{values} values; of {pieces} {word}, {held} ended held, at most {longest} in a row")
        .map_err(fault)?;
    Ok(0)
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
        Format::Text | Format::Form | Format::Frames | Format::Grpc | Format::Values => {
            body.chunks(16).collect()
        }
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
