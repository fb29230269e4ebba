"""SIP as bytes and values: nothing here sends, waits or reads a clock.

Life of a message: bytes from a datagram, or cut from a stream by ``StreamFramer``, go through
``parse_message``; a request is judged by ``fault_of`` and ``refusal_of`` and given to the
``TransactionLayer``, which says whether it is new; what is new goes to the transaction user above
(signaling), which answers with ``respond``, and the layer's outputs are sent. Dialogs make in-dialog requests
and outlive a process as ``DialogState``. ``DigestServer`` and ``DigestClient`` hold both ends of
authentication. The caller passes ``now`` and asks ``next_deadline()``.
"""
