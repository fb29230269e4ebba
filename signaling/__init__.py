"""Who talks to whom: SIP and browsers, meetings and their control, floors for slides, schedules, HTTP routes.

Everything lives in the main process and in its one event loop. `Meetings` is made first and owns the roster,
the floors and meeting control; `restore` takes up the meetings, members and seats that the rows have.
`BfcpService` opens its ports before `SipService` does, whose `start` gives restored members their dialogs
(`SipRevival`) and then opens the listeners. Media workers are heard only after that: each tells what it holds
(`Meetings.worker_ready`). Then calls come and go: a participant is a `Member` with a `Line`, made by its
protocol, and ends in `Meetings.leave`, whoever ends it. A stop goes the other way: goodbye to every call
(`Meetings.aclose`), the SIP endpoint, BFCP ports and the orders under way; rows stay. A kill skips all that,
and the next process begins with the same rows.
"""
