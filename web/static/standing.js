// How an order stands, in words.

const WORDS = {
  forwarding: "not known yet; it is sent until the supplier answers",
  refused: "refused by the supplier",
  failed: "never reached the supplier",
  cancelled: "cancelled",
};

/** Whether it can still be taken back. */
export const isOpen = (order) => order.state === "sent" && ["received", "queued"].includes(order.supplier_state);

/** Whether nothing can happen to it any more. */
export const isOver = (order) =>
  ["refused", "failed", "cancelled"].includes(order.state) || ["done", "cancelled"].includes(order.supplier_state);

/** What the supplier says, or what is known without it. */
export function stateOf(order) {
  if (order.state === "sent") return order.supplier_state ?? "sent; the supplier does not answer just now";
  return WORDS[order.state] ?? order.state;
}

/** What was ordered, in one line. */
export const product = (order) =>
  `${order.base}, ${order.drilling}, ${order.cleaning.toLowerCase()} cleaning, ` +
  `${order.pressing.toLowerCase()} pressing, ${order.inspection.toLowerCase()} inspection`;
