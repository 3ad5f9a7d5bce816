//! Streams of events (text/event-stream), with the pieces of model answers joined: chat completions and responses as OpenAI
//! streams them, messages as Anthropic does.

use super::Item;
use serde_json::{Value, json};

/// Adds the events of a body: joined where their form is known, else as they are.
pub(super) fn describe(item: Item, bytes: &[u8]) -> Item {
    let text = String::from_utf8_lossy(bytes);
    let (mut joined, mut events, mut plain) = (Joined::default(), 0_u64, Vec::new());
    for event in events_of(&text) {
        events += 1;
        match serde_json::from_str::<Value>(&event.data) {
            Ok(value) if joined.add(&value) => {}
            _ if event.data == "[DONE]" => {}
            _ => plain.push(event),
        }
    }
    let mut item = item.with("events", events);
    if !joined.parts.is_empty() || joined.is_known {
        item = item.with("joined", joined.to_json());
        for (name, value) in [("model", joined.model), ("finish", joined.finish), ("usage", joined.usage)] {
            if !value.is_null() {
                item = item.with(name, value);
            }
        }
    }
    if !plain.is_empty() {
        let events: Vec<Value> = plain
            .into_iter()
            .map(|event| match event.name.is_empty() {
                true => json!({ "data": event.data }),
                false => json!({ "event": event.name, "data": event.data }),
            })
            .collect();
        item = item.with("other_events", events);
    }
    item
}

#[derive(Default)]
struct ServerEvent {
    name: String,
    data: String,
}

/// Events of a stream (HTML standard, section 9.2.6). The last one counts without its empty line, too: the stream may be cut.
fn events_of(text: &str) -> Vec<ServerEvent> {
    let (mut events, mut event, mut has_data) = (Vec::new(), ServerEvent::default(), false);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'));
    for line in lines.chain([""]) {
        if line.is_empty() {
            let ended = std::mem::take(&mut event);
            if std::mem::take(&mut has_data) {
                events.push(ended);
            }
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event.name),
            "data" => {
                if has_data {
                    event.data.push('\n');
                }
                has_data = true;
                event.data.push_str(value);
            }
            _ => {}
        }
    }
    events
}

/// A part of an answer: its place, what it is, its text.
struct Part {
    place: (u64, u64, &'static str),
    name: String,
    text: String,
}

#[derive(Default)]
struct Joined {
    is_known: bool,
    parts: Vec<Part>,
    model: Value,
    finish: Value,
    usage: Value,
}

impl Joined {
    fn to_json(&self) -> Value {
        let part = |part: &Part| {
            let (choice, index, kind) = part.place;
            let mut object = json!({ "part": kind, "text": part.text });
            if !part.name.is_empty() {
                object["name"] = part.name.clone().into();
            }
            if (choice, index) != (0, 0) {
                object["index"] = json!([choice, index]);
            }
            object
        };
        self.parts.iter().map(part).collect()
    }

    /// Takes an event; false if its form is not known.
    fn add(&mut self, event: &Value) -> bool {
        let is_known = self.add_chat(event) || self.add_typed(event);
        self.is_known |= is_known;
        is_known
    }

    fn part(&mut self, place: (u64, u64, &'static str)) -> &mut Part {
        let at = self.parts.iter().position(|part| part.place == place).unwrap_or_else(|| {
            self.parts.push(Part { place, name: String::new(), text: String::new() });
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }

    fn push(&mut self, place: (u64, u64, &'static str), text: &Value) {
        if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
            self.part(place).text.push_str(text);
        }
    }

    fn note(&mut self, event: &Value) {
        for (slot, name) in [(&mut self.model, "model"), (&mut self.usage, "usage")] {
            if !event[name].is_null() {
                *slot = event[name].clone();
            }
        }
    }

    /// Chat completions, and completions: `choices` with `delta` or `text`.
    fn add_chat(&mut self, event: &Value) -> bool {
        let Some(choices) = event["choices"].as_array() else { return false };
        self.note(event);
        for choice in choices {
            let index = choice["index"].as_u64().unwrap_or(0);
            let delta = &choice["delta"];
            for reasoning in ["reasoning_content", "reasoning"] {
                self.push((index, 0, "reasoning"), &delta[reasoning]);
            }
            self.push((index, 0, "text"), &delta["content"]);
            self.push((index, 0, "text"), &choice["text"]);
            self.push((index, 0, "refusal"), &delta["refusal"]);
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let place = (index, call["index"].as_u64().unwrap_or(0), "tool");
                if let Some(name) = call["function"]["name"].as_str() {
                    self.part(place).name.push_str(name);
                }
                self.push(place, &call["function"]["arguments"]);
            }
            if !choice["finish_reason"].is_null() {
                self.finish = choice["finish_reason"].clone();
            }
        }
        true
    }

    /// Events with a `type`: responses of OpenAI, messages of Anthropic.
    fn add_typed(&mut self, event: &Value) -> bool {
        let Some(kind) = event["type"].as_str() else { return false };
        let number = |name: &str| event[name].as_u64().unwrap_or(0);
        let output = |kind| (number("output_index"), number("content_index"), kind);
        let block = |kind| (0, number("index"), kind);
        match kind {
            "response.output_text.delta" => self.push(output("text"), &event["delta"]),
            "response.refusal.delta" => self.push(output("refusal"), &event["delta"]),
            "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => {
                self.push((number("output_index"), number("summary_index"), "reasoning"), &event["delta"]);
            }
            "response.function_call_arguments.delta"
            | "response.custom_tool_call_input.delta"
            | "response.mcp_call_arguments.delta" => {
                self.push((number("output_index"), 0, "tool"), &event["delta"]);
            }
            "response.output_item.added" => {
                if let Some(name) = event["item"]["name"].as_str() {
                    self.part((number("output_index"), 0, "tool")).name = name.to_owned();
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.note(&event["response"]);
                self.finish = event["response"]["status"].clone();
            }
            "message_start" => self.note(&event["message"]),
            "content_block_start" => {
                let block_type = event["content_block"]["type"].as_str().unwrap_or_default();
                if block_type.ends_with("tool_use")
                    && let Some(name) = event["content_block"]["name"].as_str()
                {
                    self.part(block("tool")).name = name.to_owned();
                }
                self.push(block("text"), &event["content_block"]["text"]);
            }
            "content_block_delta" => {
                self.push(block("text"), &event["delta"]["text"]);
                self.push(block("tool"), &event["delta"]["partial_json"]);
                self.push(block("reasoning"), &event["delta"]["thinking"]);
            }
            "message_delta" => {
                self.note(event);
                self.finish = event["delta"]["stop_reason"].clone();
            }
            "content_block_stop" | "message_stop" | "ping" => {}
            // The whole of what came in pieces, once more, or that something begins or goes on.
            _ if kind.starts_with("response.") => {}
            _ => return false,
        }
        true
    }
}
