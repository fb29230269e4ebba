"""A meeting's media inside one worker.

`Bridge` fulfils the ConferenceDesk. It makes a `Conference` for each meeting and a `Participant` for each
site in it; a participant's legs turn datagrams into frames and frames into datagrams. A camera is a
`StreamParticipant`: it opens its stream, and opens it again. The conference's `MeetingSound` mixes in the
sound clock's thread, its `MeetingPicture` carries out the plan of who is forwarded and who is encoded for;
its `Programme` is what it shows the outside while somebody holds it. One ticker a worker drives RTCP,
pictures and measures. Closing a conference closes its participants, then its pictures and its sound; closing
the bridge closes all conferences, then the clock and the codec threads.
"""
