"""The task of questions about pictures: a picture, a question and an answer each."""
