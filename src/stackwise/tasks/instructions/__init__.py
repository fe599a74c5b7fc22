"""The task of instructions: chats and question-answer pairs, with a loss on the answers alone."""
