//! HTTP/1.1 as it passes: heads are parsed and requests rewritten, bodies are followed and never touched.
//!
//! Promises: no byte of a request goes up before it is permitted; a head that breaks a rule sends nothing up; answers
//! of the gateway come out in the order of the requests, at message boundaries only; a tunnel opens after a 101 to an
//! `Upgrade` and not before (CVE-2026-2833).
//!
//! ```text
//!   client:   Head -> Withheld -> Body -> Head        service:   Head -> Body -> Head
//!                         |-> Agreeing -> Tunnel                 Head -(101)-> Tunnel
//!                         |-> Closed (refused, last)             over: what still comes is dropped
//! ```
//!
//! Limits: a refused request with a body ends the connection, since draining an unbounded body is work for nothing
//! (CVE-2025-4366). A fault in a head queues its answer behind the responses under way; a caller that wants these
//! delivered keeps calling [`Http::down`] until [`Http::is_over`]. Such an answer has no request id and no events.
//! HTTP/1.0 requests go up as HTTP/1.0 with `Connection: close`.

mod answer;
mod body;
pub mod connect;
mod head;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::answer::Challenge;
use self::body::Body;
use self::head::{Asked, Broken, HeadEnd};
use super::{Edit, Ended, Event, Fault, Fields, Http, Key, Kind, Refusal, Request, Rewrite, Up, Why};
use crate::names::{Culprit, RequestId};

/// What one connection may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request head, the empty line included. Default 32 KiB: tokens with group claims reach 16.
    pub head_bytes: usize,
    /// Fields of a request head. Default 100; above 128 has no effect.
    pub fields: usize,
    /// Requests under way at once, refused ones included. Default 16.
    pub pipelined: usize,
    /// Bytes of one chunk extension. Default 256: no client in use sends any.
    pub chunk_extension: usize,
    /// Bytes of a trailer section. Default 8 KiB.
    pub trailer_bytes: usize,
    /// Bytes of a response head. Default 64 KiB.
    pub response_head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_bytes: 32 << 10,
            fields: 100,
            pipelined: 16,
            chunk_extension: 256,
            trailer_bytes: 8 << 10,
            response_head_bytes: 64 << 10,
        }
    }
}

/// One client connection's HTTP/1.1.
pub struct Http1 {
    limits: Limits,
    client: Client,
    service: Service,
    exchanges: VecDeque<Exchange>,
    events: VecDeque<Event>,
    request: Request,
    keys: Key,
    life: Life,
    /// A head that came in pieces, or is held back to be changed.
    up_held: Vec<u8>,
    down_held: Vec<u8>,
    up_trailer: Vec<u8>,
    down_trailer: Vec<u8>,
    /// Names that no trailer of the present request may carry: what its head had taken out and put in.
    guarded: Fields,
    response: Fields,
    /// Always empty: trailers of responses are held to the fixed names only.
    unguarded: Fields,
}

/// What the next byte from the client belongs to.
#[derive(Debug)]
enum Client {
    Head {
        end: HeadEnd,
        blank: bool,
    },
    Withheld(Asked),
    Body(Body),
    /// An `Upgrade` went up and is not answered.
    Agreeing,
    Tunnel,
    /// Nothing more is taken from the client.
    Closed,
}

/// What the next byte from the service belongs to.
#[derive(Debug)]
enum Service {
    Head { end: HeadEnd, withhold: bool },
    Body(Body),
    Tunnel,
}

#[derive(Debug, PartialEq, Eq)]
enum Life {
    Serving,
    Draining,
    Over,
}

/// One request and its response, oldest in front.
#[derive(Debug)]
struct Exchange {
    key: Key,
    reply: Reply,
    to_head: bool,
    upgrade: bool,
    close: bool,
    sent: bool,
    answered: bool,
    interim: u16,
    up: u64,
    down: u64,
}

#[derive(Debug)]
enum Reply {
    FromService,
    Refused { why: Why, id: Option<RequestId> },
}

impl Http1 {
    /// A fresh connection.
    pub fn new(limits: Limits) -> Self {
        Http1 {
            limits,
            client: Client::START,
            service: Service::START,
            exchanges: VecDeque::new(),
            events: VecDeque::new(),
            request: Request::default(),
            keys: 0,
            life: Life::Serving,
            up_held: Vec::new(),
            down_held: Vec::new(),
            up_trailer: Vec::new(),
            down_trailer: Vec::new(),
            guarded: Fields::default(),
            response: Fields::default(),
            unguarded: Fields::default(),
        }
    }

    /// Reads on in a request head; `Ok(true)` once it is whole.
    fn up_head(&mut self, edit: &mut Edit<'_>) -> Result<bool, Broken> {
        let Client::Head { end, blank } = &mut self.client else { return Ok(false) };
        let rest = edit.rest();
        let Some(n) = end.find(rest, self.limits.head_bytes)? else {
            self.up_held.extend_from_slice(rest);
            edit.skip(rest.len());
            return Ok(false);
        };
        let head = if self.up_held.is_empty() {
            &rest[..n]
        } else {
            self.up_held.extend_from_slice(&rest[..n]);
            &self.up_held[..]
        };
        if head == b"\r\n" {
            if *blank {
                return Err(Broken::bad("more than one empty line before a request", "RFC 9112 2.2"));
            }
            self.client = Client::Head { end: HeadEnd::default(), blank: true };
            self.up_held.clear();
            edit.skip(n);
            return Ok(false);
        }
        let asked = head::parse_request(head, &self.limits, &mut self.request)?;
        self.up_held.clear();
        edit.skip(n);
        self.keys += 1;
        self.request.key = self.keys;
        self.client = Client::Withheld(asked);
        Ok(true)
    }

    /// The client broke a rule: in a head, its answer is queued; in a body, the connection is cut.
    fn client_fault(&mut self, broken: Broken) -> Fault {
        let Broken { why, rule, section } = broken;
        if let Client::Body(_) = self.client {
            // A body cannot be answered beside its response; the connection is cut.
            self.abandon(Ended::ByClient);
        } else {
            let mut exchange = Exchange::new(0, &Request::default(), true);
            exchange.reply = Reply::Refused { why, id: None };
            self.exchanges.push_back(exchange);
        }
        self.client = Client::Closed;
        Fault { culprit: Culprit::Client, rule, section }
    }

    fn service_fault(&mut self, broken: Broken) -> Fault {
        self.abandon(Ended::ByUpstream);
        Fault { culprit: Culprit::Upstream, rule: broken.rule, section: broken.section }
    }

    /// Ends the connection and everything under way.
    fn abandon(&mut self, how: Ended) {
        self.life = Life::Over;
        if !matches!(self.client, Client::Tunnel) {
            self.client = Client::Closed;
        }
        for exchange in std::mem::take(&mut self.exchanges) {
            if let Reply::FromService = exchange.reply {
                self.events.push_back(exchange.ended(how));
            }
        }
    }

    /// Puts in the answers that are next in order.
    fn answer(&mut self, edit: &mut Edit<'_>) {
        while self.answer_is_next() {
            let Some(exchange) = self.exchanges.pop_front() else { return };
            let Reply::Refused { why, id } = exchange.reply else { return };
            let close = exchange.close || self.life == Life::Draining && self.is_last(0);
            answer::write(edit.insert_with(), why, id, close, exchange.to_head, Challenge::Origin);
            if id.is_some() {
                self.events.push_back(Event::Response { key: exchange.key, status: why.status() });
                self.events.push_back(exchange.ended(Ended::ByGateway));
            }
            if close {
                self.abandon(Ended::ByGateway);
            }
        }
    }

    fn answer_is_next(&self) -> bool {
        let boundary = matches!(&self.service, Service::Head { end, .. } if end.is_start());
        boundary && matches!(self.exchanges.front(), Some(Exchange { reply: Reply::Refused { .. }, .. }))
    }

    /// True when no request follows the `left` exchanges that are still listed.
    fn is_last(&self, left: usize) -> bool {
        self.exchanges.len() == left && !matches!(self.client, Client::Withheld(_))
    }

    fn down_head(&mut self, edit: &mut Edit<'_>) -> Result<(), Broken> {
        let draining = self.life == Life::Draining;
        let last = self.is_last(1);
        let Service::Head { end, withhold } = &mut self.service else { return Ok(()) };
        let exchange = match self.exchanges.front_mut() {
            Some(exchange) if !exchange.answered => exchange,
            _ => return Err(Broken::bad("response without a request", "RFC 9112 9.2")),
        };
        if end.is_start() {
            *withhold = draining;
        }
        let (rest, withhold) = (edit.rest(), *withhold);
        let found = end.find(rest, self.limits.response_head_bytes)?;
        let n = found.unwrap_or(rest.len());
        let whole = self.down_held.is_empty() && found.is_some();
        if !whole {
            self.down_held.extend_from_slice(&rest[..n]);
        }
        if found.is_none() {
            if withhold {
                edit.skip(n)
            } else {
                edit.keep(n)
            }
            return Ok(());
        }
        let head = if whole { &rest[..n] } else { &self.down_held[..] };
        let answered = head::parse_response(head, exchange.to_head, &mut self.response)?;
        let status = answered.status;
        if status == 101 && !exchange.upgrade {
            return Err(Broken::bad("101 without an Upgrade", "CVE-2026-2833"));
        }
        if status < 200 && status != 101 {
            exchange.interim += 1;
            if exchange.interim > INTERIM_MAX {
                return Err(Broken::bad("too many interim responses", "limit"));
            }
        }
        let closing = withhold && last && status >= 200;
        if !withhold {
            edit.keep(n);
        } else {
            let mut copy = std::mem::take(&mut self.down_held);
            if whole {
                copy.extend_from_slice(&rest[..n]);
            }
            edit.skip(n);
            match closing {
                true => head::write_closing(edit.insert_with(), &copy, &self.response),
                false => edit.insert(&copy),
            }
            self.down_held = copy;
        }
        self.down_held.clear();
        self.service = Service::START;
        if status < 200 && status != 101 {
            return Ok(());
        }
        self.events.push_back(Event::Response { key: exchange.key, status });
        if status == 101 {
            self.client = Client::Tunnel;
            self.service = Service::Tunnel;
            return Ok(());
        }
        exchange.close |= answered.close || closing;
        if let Client::Agreeing = self.client {
            self.client = Client::START;
        }
        self.service = Service::Body(answered.body);
        Ok(())
    }

    /// The response in front is complete.
    fn answered(&mut self) {
        self.service = Service::START;
        self.down_trailer.clear();
        if let Some(front) = self.exchanges.front_mut() {
            front.answered = true;
        }
        self.settle();
    }

    /// Takes the front exchange off once both of its messages are complete, or its response ends the connection.
    fn settle(&mut self) {
        let Some(front) = self.exchanges.front() else { return };
        let (sent, close) = (front.sent, front.close);
        if !front.answered || !(sent || close) {
            return;
        }
        if let Some(front) = self.exchanges.pop_front() {
            self.events.push_back(front.ended(if sent { Ended::Whole } else { Ended::ByUpstream }));
        }
        if close {
            self.abandon(Ended::ByUpstream);
        }
    }

    /// The request in the back is complete.
    fn sent(&mut self) {
        let Some(back) = self.exchanges.back_mut() else { return };
        back.sent = true;
        self.client = match (back.upgrade, back.close) {
            (true, _) => Client::Agreeing,
            (_, true) => Client::Closed,
            _ => Client::START,
        };
        self.settle();
    }
}

impl Http for Http1 {
    fn up(&mut self, edit: &mut Edit<'_>) -> Result<Up, Fault> {
        loop {
            match &mut self.client {
                Client::Withheld(_) => return Ok(Up::Request),
                Client::Closed => edit.skip(edit.rest().len()),
                Client::Head { .. } if self.life != Life::Serving => edit.skip(edit.rest().len()),
                _ => {}
            }
            if edit.is_done() {
                return Ok(Up::Done);
            }
            match &mut self.client {
                Client::Head { .. } if self.exchanges.len() >= self.limits.pipelined => return Ok(Up::Wait),
                Client::Head { .. } => {
                    if let Err(broken) = self.up_head(edit) {
                        return Err(self.client_fault(broken));
                    }
                }
                Client::Body(body) => {
                    let passed = body.pass(edit, &self.limits, &mut self.up_trailer, &self.guarded);
                    let done = *body == Body::Done;
                    let n = passed.map_err(|broken| self.client_fault(broken))?;
                    if let Some(back) = self.exchanges.back_mut() {
                        back.up += n;
                    }
                    if done {
                        self.sent();
                    }
                }
                Client::Agreeing => return Ok(Up::Wait),
                Client::Tunnel => {
                    let n = edit.rest().len();
                    edit.keep(n);
                    if let Some(front) = self.exchanges.front_mut() {
                        front.up += n as u64;
                    }
                }
                Client::Withheld(_) | Client::Closed => {}
            }
        }
    }

    fn request(&self) -> &Request {
        &self.request
    }

    fn permit(&mut self, edit: &mut Edit<'_>, rewrite: &Rewrite<'_>) {
        let Client::Withheld(asked) = &mut self.client else { return };
        head::write_request(edit.insert_with(), &self.request, asked, rewrite);
        self.guarded.clear();
        if matches!(asked.body, Body::Chunked(_)) {
            let set = rewrite.set.iter().map(|(name, _)| *name);
            rewrite.strip.iter().copied().chain(set).for_each(|name| self.guarded.push(name.as_bytes(), b""));
        }
        let body = std::mem::replace(&mut asked.body, Body::Done);
        self.exchanges.push_back(Exchange::new(self.request.key, &self.request, asked.close));
        match body {
            Body::Done => self.sent(),
            body => self.client = Client::Body(body),
        }
    }

    fn refuse(&mut self, refusal: &Refusal) {
        let Client::Withheld(asked) = &self.client else { return };
        let last =
            matches!(refusal.why, Why::Draining | Why::Overloaded | Why::BadRequest | Why::HeadTooLarge);
        let close = last || asked.close || asked.expects || !self.request.ends;
        let mut exchange = Exchange::new(self.request.key, &self.request, close);
        exchange.reply = Reply::Refused { why: refusal.why, id: Some(refusal.id) };
        self.exchanges.push_back(exchange);
        self.client = if close { Client::Closed } else { Client::START };
    }

    fn down(&mut self, edit: &mut Edit<'_>) -> Result<(), Fault> {
        loop {
            self.answer(edit);
            if self.life == Life::Over {
                edit.skip(edit.rest().len());
            }
            // A body of no length is over without a further byte.
            if let Service::Body(Body::Done) = self.service {
                self.answered();
                continue;
            }
            if edit.is_done() {
                return Ok(());
            }
            match &mut self.service {
                Service::Head { .. } => {
                    if let Err(broken) = self.down_head(edit) {
                        return Err(self.service_fault(broken));
                    }
                }
                Service::Body(body) => {
                    let passed = body.pass(edit, &self.limits, &mut self.down_trailer, &self.unguarded);
                    let n = passed.map_err(|broken| self.service_fault(broken))?;
                    if let Some(front) = self.exchanges.front_mut() {
                        front.down += n;
                    }
                }
                Service::Tunnel => {
                    let n = edit.rest().len();
                    edit.keep(n);
                    if let Some(front) = self.exchanges.front_mut() {
                        front.down += n as u64;
                    }
                }
            }
        }
    }

    fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn wants_up(&self) -> bool {
        false
    }

    fn wants_down(&self) -> bool {
        self.answer_is_next()
    }

    fn up_ended(&mut self) -> Result<(), Fault> {
        let whole = match &self.client {
            Client::Head { end, .. } => end.is_start(),
            Client::Withheld(asked) => asked.body == Body::Done,
            Client::Body(_) => false,
            Client::Agreeing | Client::Tunnel | Client::Closed => true,
        };
        if !whole {
            self.abandon(Ended::ByClient);
            let rule = "the client left in the middle of a request";
            return Err(Fault { culprit: Culprit::Client, rule, section: "RFC 9112 8" });
        }
        match &mut self.client {
            Client::Withheld(asked) => asked.close = true,
            Client::Head { .. } => {
                self.client = Client::Closed;
                if self.exchanges.is_empty() {
                    self.life = Life::Over;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn down_ended(&mut self) -> Result<(), Fault> {
        let pending = self.exchanges.iter().any(|e| matches!(e.reply, Reply::FromService) && !e.answered);
        match &self.service {
            Service::Body(Body::UntilClose) => self.answered(),
            Service::Tunnel => self.finish_tunnel(),
            Service::Head { .. } if !pending => {
                // Answers of the gateway can still go down; nothing else can.
                self.client = Client::Closed;
                match self.exchanges.back_mut() {
                    Some(back) if matches!(back.reply, Reply::Refused { .. }) => back.close = true,
                    _ => self.abandon(Ended::ByUpstream),
                }
            }
            _ => {
                let rule = "the upstream left in the middle of a response";
                return Err(self.service_fault(Broken::bad(rule, "RFC 9112 8")));
            }
        }
        Ok(())
    }

    fn drain(&mut self) {
        if self.life == Life::Serving {
            self.life = Life::Draining;
        }
    }

    fn cut(&mut self, _key: Key) -> bool {
        false
    }

    fn in_flight(&self) -> usize {
        self.exchanges.iter().filter(|e| matches!(e.reply, Reply::FromService)).count()
    }

    fn is_over(&self) -> bool {
        let last_words = self.answer_is_next() && self.exchanges.front().is_some_and(|e| e.close);
        let idle = self.is_last(0) && !self.is_tunnel();
        let taking = self.life == Life::Serving && !matches!(self.client, Client::Closed);
        self.life == Life::Over || last_words || idle && !taking
    }

    fn is_tunnel(&self) -> bool {
        matches!(self.service, Service::Tunnel)
    }
}

impl Http1 {
    /// The service's end closes the account of a tunnel; what the client still sends is opaque and uncounted.
    fn finish_tunnel(&mut self) {
        if let Some(front) = self.exchanges.pop_front() {
            self.events.push_back(front.ended(Ended::Whole));
        }
    }
}

impl Client {
    const START: Client = Client::Head { end: HeadEnd::START, blank: false };
}

impl Service {
    const START: Service = Service::Head { end: HeadEnd::START, withhold: false };
}

impl Exchange {
    fn new(key: Key, request: &Request, close: bool) -> Exchange {
        Exchange {
            key,
            reply: Reply::FromService,
            to_head: request.method == b"HEAD",
            upgrade: request.kind == Kind::Upgrade,
            close,
            sent: false,
            answered: false,
            interim: 0,
            up: 0,
            down: 0,
        }
    }

    fn ended(&self, how: Ended) -> Event {
        Event::Ended { key: self.key, up: self.up, down: self.down, how }
    }
}

/// Progress reports (102, 103) come in tens; without a limit a service could keep an exchange open forever.
const INTERIM_MAX: u16 = 64;
