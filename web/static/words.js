// Words for the states of a machine; what they look like is the style sheet's.

export const WORDS = { live: "Live", silent: "Silent", unknown: "Unknown" };

export const CLAIMED = "Sent by two connections";
