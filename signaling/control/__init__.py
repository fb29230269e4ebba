"""Meeting control: who is seen, who is heard, who waits, who decides.

`state` is what is decided, one frozen value a meeting, kept in its row. `machine` is pure: an order and the
people there give the next state, and whom to mute; the commands stand with what they share (`views`,
`roll_calls`, `chair_and_floor`, `site_media`), each with its part of the table. `staging` turns a state into
what the worker shows. `controller` carries orders out, one at a time a meeting: row, memory, worker, event;
it turns the polling. A state lives as long as its meeting, and outlives the process in the meeting's row.
"""
