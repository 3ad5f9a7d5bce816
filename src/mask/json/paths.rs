//! Members of JSON that have a meaning of their own: pieces of texts that go on, what repeats a text, and what is signed.

/// Members that carry a piece of a text which goes on in the next event. Each has a text of its own for every `index`,
/// `output_index`, `content_index`, `summary_index` and `type` of the objects that it stands in, and in some for every `id`.
const DELTAS: [&str; 38] = [
    // OpenAI: chat completions, completions, responses.
    ".choices[].delta.content",
    ".choices[].delta.refusal",
    ".choices[].delta.reasoning",
    ".choices[].delta.reasoning_content",
    ".choices[].delta.tool_calls[].function.arguments",
    ".choices[].delta.tool_calls[].custom.input",
    ".choices[].delta.function_call.arguments",
    ".choices[].delta.audio.transcript",
    ".choices[].text",
    ".delta",
    // OpenAI: threads of assistants.
    ".delta.content[].text.value",
    ".delta.step_details.tool_calls[].function.arguments",
    ".delta.step_details.tool_calls[].code_interpreter.input",
    // Chat completions of others.
    ".choices[].delta.content[].text",
    ".choices[].delta.content[].thinking[].text",
    ".choices[].delta.reasoning_details[].text",
    ".choices[].delta.reasoning_details[].summary",
    // Anthropic: messages, completions.
    ".delta.text",
    ".delta.partial_json",
    ".completion",
    // Gemini.
    ".candidates[].content.parts[].text",
    ".serverContent.modelTurn.parts[].text",
    ".serverContent.inputTranscription.text",
    ".serverContent.outputTranscription.text",
    ".candidates[].content.parts[].functionCall.partialArgs[].stringValue",
    // Ollama, and what it is made of.
    ".message.content",
    ".message.thinking",
    ".response",
    ".thinking",
    ".content",
    // Cohere, and what others call it.
    ".delta.message.content.text",
    ".delta.message.tool_plan",
    ".delta.message.tool_calls.function.arguments",
    ".delta.content",
    ".token.text",
    // A2A: artifacts of agents.
    ".result.artifact.parts[].text",
    // AI SDK, beside `.delta`.
    ".inputTextDelta",
    ".results[].generated_text",
];

/// Tokens of a text with their probabilities: together they repeat the text.
const TOKENS: [&str; 3] = [".logprobs.content[].token", ".logprobs[].token", ".logprobs.tokens[]"];

/// What repeats a token beside it: its bytes, and what might have stood there.
const BESIDE_TOKENS: [&str; 6] = [
    ".logprobs.content[].bytes[]",
    ".logprobs[].bytes[]",
    ".top_logprobs[].token",
    ".top_logprobs[].bytes[]",
    ".logprobs.refusal[].token",
    ".logprobs.refusal[].bytes[]",
];

/// Members that their sender has signed, or that are opaque: overwritten, they would be refused when they come back.
const SIGNED: [&str; 8] = [
    ".delta.thinking",
    ".delta.signature",
    ".content_block.signature",
    ".content_block.data",
    ".content[].signature",
    ".content[].thinking",
    ".thoughtSignature",
    ".encrypted_content",
];

/// Members that tell one text from another.
const INDEXES: [&str; 4] = [".index", ".output_index", ".content_index", ".summary_index"];

/// Members of an event that tell its text from others where it has no index: in the streams of AI SDK and AG-UI, and of what users say aloud to OpenAI.
const IDS: [&str; 4] = [".id", ".messageId", ".toolCallId", ".item_id"];
/// How types of such events end. In others an `id` may be that of the event.
const TYPES_WITH_ID: [&str; 5] = ["-delta", "_CONTENT", "_ARGS", "_CHUNK", "_transcription.delta"];

/// What a string or number at a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A text that is whole.
    Whole,
    /// A piece of the text of this number.
    Piece(u8),
    /// Repeats the token that stands in the same object.
    BesideToken,
    Signed,
}

pub(super) fn role(path: &[u8]) -> Role {
    // Some servers send the events as elements of one array.
    let path = path.strip_prefix(b"[]").unwrap_or(path);
    let ends = |known: &&str| path.ends_with(known.as_bytes());
    if SIGNED.iter().any(ends) {
        return Role::Signed;
    }
    if let Some(delta) = DELTAS.iter().position(|delta| delta.as_bytes() == path) {
        return Role::Piece(delta as u8);
    }
    let is_token = path.ends_with(b"token") || path.ends_with(b"[]");
    if !is_token {
        return Role::Whole;
    }
    match TOKENS.iter().position(ends) {
        Some(token) => Role::Piece((DELTAS.len() + token) as u8),
        None if BESIDE_TOKENS.iter().any(ends) => Role::BesideToken,
        None => Role::Whole,
    }
}

/// True for a number that tells one text from another.
pub(super) fn is_index(path: &[u8]) -> bool {
    INDEXES.iter().any(|known| path.ends_with(known.as_bytes()))
}

/// True for a text whose members differ by it.
pub(super) fn is_type(path: &[u8]) -> bool {
    path.ends_with(b".type") || path.ends_with(b".jsonPath")
}

/// True for a text that names the text of the event which it stands in.
pub(super) fn is_id(path: &[u8]) -> bool {
    let path = path.strip_prefix(b"[]").unwrap_or(path);
    IDS.iter().any(|known| path == known.as_bytes())
}

/// True for the end of a type of events that have an id for their text.
pub(super) fn has_id(end_of_type: &[u8]) -> bool {
    TYPES_WITH_ID.iter().any(|known| end_of_type.ends_with(known.as_bytes()))
}

/// False for pieces that are tokens beside a text, never a text by themselves.
pub(super) fn may_be_json(piece: u8) -> bool {
    usize::from(piece) < DELTAS.len()
}

/// True for the path of an object that has a token and what repeats it.
pub(super) fn is_token_object(path: &[u8]) -> bool {
    TOKENS[..2]
        .iter()
        .any(|token| token.strip_suffix(".token").is_some_and(|object| path.ends_with(object.as_bytes())))
        || path.ends_with(b".logprobs.refusal[]")
}
