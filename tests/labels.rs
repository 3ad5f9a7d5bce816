//! What metrics call things and what the product calls them are the same words.

use staunch::metrics::REFUSALS;
use staunch::protocol::Why;
use std::collections::BTreeSet;

/// Every variant once. A variant that is added and not listed here does not compile.
fn after(why: Why) -> Option<Why> {
    match why {
        Why::NoToken => Some(Why::InvalidToken),
        Why::InvalidToken => Some(Why::ExpiredToken),
        Why::ExpiredToken => Some(Why::TwoTokens),
        Why::TwoTokens => Some(Why::Forbidden),
        Why::Forbidden => Some(Why::IssuerUnavailable),
        Why::IssuerUnavailable => Some(Why::BadGateway),
        Why::BadGateway => Some(Why::Draining),
        Why::Draining => Some(Why::Overloaded),
        Why::Overloaded => Some(Why::BadRequest),
        Why::BadRequest => Some(Why::HeadTooLarge),
        Why::HeadTooLarge => Some(Why::MethodNotAllowed),
        Why::MethodNotAllowed => None,
    }
}

#[test]
fn every_refusal_has_its_own_label_and_every_label_its_refusal() {
    let reasons: Vec<Why> = std::iter::successors(Some(Why::NoToken), |why| after(*why)).collect();
    let codes: BTreeSet<&str> = reasons.iter().map(|why| why.code()).collect();
    assert_eq!(codes.len(), reasons.len(), "two reasons share a code");
    assert_eq!(REFUSALS.len(), codes.len());
    assert_eq!(codes, BTreeSet::from(REFUSALS));
}
